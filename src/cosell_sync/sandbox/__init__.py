"""The outside world as served fakes: Partner Center, Salesforce, Dataverse, over TLS on loopback.

They stand for systems that nobody can try against: strict where the real ones are strict, and moody on request. Nothing here
imports the product, so that a mistake made there cannot be made here a second time.
"""
