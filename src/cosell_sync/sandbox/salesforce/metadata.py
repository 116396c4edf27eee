"""Objects and fields as the `describe` resources of the REST API print them."""

from cosell_sync.sandbox.salesforce.schema import Field, SObject


def describe_field(each: Field) -> dict[str, object]:
    """One field as `describe` prints it."""
    labels = each.labels or each.values
    return {
        "name": each.name,
        "label": each.label,
        "type": each.type,
        "length": each.length,
        "byteLength": each.length * 3,
        "precision": each.precision,
        "scale": each.scale,
        "digits": each.precision if each.type == "int" else 0,
        "nillable": each.nillable,
        "createable": each.createable,
        "updateable": each.updateable,
        "custom": each.custom,
        "calculated": each.calculated,
        "autoNumber": False,
        "externalId": each.external_id,
        "idLookup": each.external_id or each.type == "id",
        "unique": each.unique,
        "caseSensitive": False,
        "filterable": not each.long and each.type != "address",
        "sortable": not each.long and each.type != "address",
        "defaultedOnCreate": each.defaulted,
        "defaultValue": each.default,
        "restrictedPicklist": each.restricted,
        "picklistValues": [
            {"value": value, "label": label, "active": True, "defaultValue": value == each.default, "validFor": None}
            for value, label in zip(each.values, labels, strict=True)
        ],
        "referenceTo": list(each.refers_to),
        "relationshipName": each.relationship or None,
        "cascadeDelete": each.cascade,
        "extraTypeInfo": "plaintextarea" if each.type == "textarea" else None,
    }  # fmt: skip


def summary(shape: SObject, root: str) -> dict[str, object]:
    """One object as the global describe lists it."""
    return {
        "name": shape.name,
        "label": shape.label,
        "labelPlural": f"{shape.label}s",
        "keyPrefix": shape.prefix,
        "custom": shape.name.endswith("__c"),
        "queryable": True,
        "retrieveable": True,
        "createable": shape.createable,
        "updateable": shape.createable,
        "deletable": shape.createable,
        "undeletable": shape.createable and shape.recycled,
        "replicateable": shape.replicateable,
        "mergeable": shape.name in {"Account", "Contact", "Lead"},
        "searchable": shape.createable,
        "urls": {
            "sobject": f"{root}/sobjects/{shape.name}",
            "describe": f"{root}/sobjects/{shape.name}/describe",
            "rowTemplate": f"{root}/sobjects/{shape.name}/{{ID}}",
        },
    }


def describe(shape: SObject, root: str) -> dict[str, object]:
    """One object in full."""
    return {
        **summary(shape, root),
        "fields": [describe_field(each) for each in shape.fields.values()],
        "childRelationships": [
            {
                "childSObject": each.object,
                "field": each.field,
                "relationshipName": each.relationship or None,
                "cascadeDelete": each.cascade,
            }
            for each in shape.children
        ],
        "recordTypeInfos": [
            {
                "active": True,
                "available": True,
                "defaultRecordTypeMapping": True,
                "developerName": "Master",
                "master": True,
                "name": "Master",
                "recordTypeId": "012000000000000AAA",
            }
        ],
    }
