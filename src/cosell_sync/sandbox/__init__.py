"""The sandbox: a fake Partner Center, Salesforce and Dataverse, served over TLS on loopback.

The fakes replace systems that cannot be used in tests. They are as strict as the real systems, and can inject faults. The
sandbox imports nothing from the product, so that a mistake in the product is not repeated here.

Where to look: a folder per system, with the same file names in each. `service` is the fake as a whole, `actions` what people
do in it, `rest` its API, `query` its queries, `rows` its data and the rules of a write, `schema` its types. `server` serves a
fake, `faults` are what a server can do wrong, `control` holds the `/_sandbox/` addresses, `systems` starts everything, and
`demo` holds the demo's data and story.
"""
