"""EntityDefinitions and their kin as JSON: names, attributes, keys, relationships."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.sandbox.dataverse.rights import PRIVILEGE_KINDS, privilege_id
from app.sandbox.dataverse.schema import NAMESPACE, metadata_id

if TYPE_CHECKING:
    from app.sandbox.dataverse.schema import Column, Schema, Table

_TYPES = {
    # kind: AttributeType, the metadata type's stem
    "id": ("Uniqueidentifier", "UniqueIdentifier"),
    "guid": ("Uniqueidentifier", "UniqueIdentifier"),
    "string": ("String", "String"),
    "memo": ("Memo", "Memo"),
    "int": ("Integer", "Integer"),
    "bigint": ("BigInt", "BigInt"),
    "decimal": ("Decimal", "Decimal"),
    "money": ("Money", "Money"),
    "bool": ("Boolean", "Boolean"),
    "choice": ("Picklist", "Picklist"),
    "choices": ("Virtual", "MultiSelectPicklist"),
    "state": ("State", "State"),
    "status": ("Status", "Status"),
    "datetime": ("DateTime", "DateTime"),
    "date": ("DateTime", "DateTime"),
    "lookup": ("Lookup", "Lookup"),
    "file": ("Virtual", "File"),
    "image": ("Virtual", "Image"),
}


def label(text: str) -> dict[str, Any]:
    one = {
        "Label": text,
        "LanguageCode": 1033,
        "IsManaged": False,
        "MetadataId": metadata_id("label", text),
        "HasChanged": None,
    }
    return {"LocalizedLabels": [one], "UserLocalizedLabel": one}


def attribute_type(column: Column) -> tuple[str, str]:
    """AttributeType, and the name of the metadata type."""
    if column.kind == "lookup" and column.name == "ownerid":
        return "Owner", "LookupAttributeMetadata"
    if column.kind == "lookup" and set(column.targets) == {"account", "contact"}:
        return "Customer", "LookupAttributeMetadata"
    kind, stem = _TYPES[column.kind]
    return kind, f"{stem}AttributeMetadata"


def entity(table: Table) -> dict[str, Any]:
    custom = table.logical.startswith("new_")
    return {
        "MetadataId": table.metadata_id,
        "LogicalName": table.logical,
        "SchemaName": table.schema_name,
        "EntitySetName": table.set_name,
        "LogicalCollectionName": table.set_name,
        "CollectionSchemaName": f"{table.schema_name}s",
        "PrimaryIdAttribute": table.pk,
        "PrimaryNameAttribute": table.name_column,
        "PrimaryImageAttribute": "entityimage" if "entityimage" in table.by_name else None,
        "ObjectTypeCode": table.type_code,
        "OwnershipType": "UserOwned" if table.owned else "OrganizationOwned",
        "TableType": "Standard",
        "IsActivity": table.base == "activitypointer",
        "IsCustomEntity": custom,
        "IsManaged": not custom,
        "IsPrivate": False,
        "IsIntersect": False,
        "IsLogicalEntity": False,
        "ChangeTrackingEnabled": True,
        "IsOptimisticConcurrencyEnabled": True,
        "DataProviderId": None,
        "DisplayName": label(table.label),
        "DisplayCollectionName": label(f"{table.label}s"),
        "Description": label(f"{table.label} of the sandbox."),
        "Privileges": [
            {
                "CanBeBasic": table.owned,
                "CanBeDeep": table.owned,
                "CanBeGlobal": True,
                "CanBeLocal": table.owned,
                "Name": f"prv{kind}{table.privilege}",
                "PrivilegeId": privilege_id(f"prv{kind}{table.privilege}"),
                "PrivilegeType": kind,
            }
            for kind in PRIVILEGE_KINDS
        ],
    }


def attribute(table: Table, column: Column) -> dict[str, Any]:
    kind, metadata_type = attribute_type(column)
    stem = metadata_type.removesuffix("AttributeMetadata")
    found: dict[str, Any] = {
        "@odata.type": f"#{NAMESPACE}.{metadata_type}",
        "MetadataId": metadata_id(table.logical, column.name),
        "LogicalName": column.name,
        "SchemaName": column.schema_name or column.name,
        "EntityLogicalName": table.logical,
        "AttributeType": kind,
        "AttributeTypeName": {"Value": f"{stem}Type"},
        "AttributeOf": column.name.removesuffix("_name") if _is_virtual(column) else None,
        "ColumnNumber": list(table.by_name).index(column.name) + 1,
        "IsPrimaryId": column.name == table.pk,
        "IsPrimaryName": column.name == table.name_column,
        "IsCustomAttribute": column.name.startswith("new_"),
        "IsValidForCreate": column.writable,
        "IsValidForRead": True,
        "IsValidForUpdate": column.writable and column.name != table.pk,
        "IsValidForAdvancedFind": {"Value": True, "CanBeChanged": True},
        "IsSecured": False,
        "RequiredLevel": {
            "Value": "ApplicationRequired" if column.required else "None",
            "CanBeChanged": True,
            "ManagedPropertyLogicalName": "canmodifyrequirementlevelsettings",
        },
        "DisplayName": label(column.label or column.name),
        "Description": label(""),
    }
    match column.kind:
        case "string" | "memo":
            found |= {"MaxLength": column.max_length, "Format": "Text"}
        case "lookup":
            found["Targets"] = list(column.targets)
        case "money" | "decimal":
            found |= {"Precision": 2, "MinValue": -1e11, "MaxValue": 1e11}
        case "int":
            found |= {"MinValue": -(2**31), "MaxValue": 2**31 - 1, "Format": "None"}
        case "datetime" | "date":
            found["Format"] = "DateOnly" if column.kind == "date" else "DateAndTime"
        case "file" | "image":
            found["MaxSizeInKB"] = 131_072 if column.kind == "file" else 30_720
    return found


def _is_virtual(column: Column) -> bool:
    return column.name.endswith("contractfile_name")


def option_set(table: Table, column: Column) -> dict[str, Any]:
    """What `$expand=OptionSet` adds to a choice."""
    is_bool = column.kind == "bool"
    options = [
        {"Value": value, "Label": label(text), "Color": None, "IsManaged": False}
        for value, text in column.options
    ]
    found: dict[str, Any] = {
        "MetadataId": metadata_id(table.logical, column.name, "options"),
        "Name": f"{table.logical}_{column.name}",
        "IsGlobal": False,
        "IsCustomOptionSet": column.name.startswith("new_"),
        "OptionSetType": "Boolean" if is_bool else "Picklist",
    }
    if is_bool:
        first, second = options or ({"Value": 0}, {"Value": 1})
        return found | {"FalseOption": first, "TrueOption": second}
    return found | {"Options": options}


def keys(table: Table) -> list[dict[str, Any]]:
    return [
        {
            "MetadataId": metadata_id(table.logical, "key", key.name),
            "LogicalName": key.name,
            "SchemaName": key.name,
            "EntityLogicalName": table.logical,
            "KeyAttributes": list(key.columns),
            "EntityKeyIndexStatus": "Active",
            "IsManaged": False,
            "DisplayName": label(key.name),
        }
        for key in table.keys
    ]


def one_to_many(schema: Schema) -> list[dict[str, Any]]:
    return [
        {
            "@odata.type": f"#{NAMESPACE}.OneToManyRelationshipMetadata",
            "MetadataId": metadata_id("relationship", r.child, r.nav),
            "SchemaName": r.name,
            "RelationshipType": "OneToManyRelationship",
            "IsCustomRelationship": r.name.startswith("new_"),
            "ReferencedEntity": r.parent,
            "ReferencedAttribute": schema[r.parent].pk,
            "ReferencingEntity": r.child,
            "ReferencingAttribute": r.lookup,
            "ReferencedEntityNavigationPropertyName": r.collection,
            "ReferencingEntityNavigationPropertyName": r.nav,
            "CascadeConfiguration": {"Delete": "Cascade" if r.cascades else "RemoveLink"},
        }
        for r in schema.one_to_many
    ]


def many_to_many(schema: Schema) -> list[dict[str, Any]]:
    return [
        {
            "@odata.type": f"#{NAMESPACE}.ManyToManyRelationshipMetadata",
            "MetadataId": metadata_id("relationship", r.name),
            "SchemaName": r.name,
            "RelationshipType": "ManyToManyRelationship",
            "IsCustomRelationship": r.name.startswith("new_"),
            "Entity1LogicalName": r.left,
            "Entity1NavigationPropertyName": r.left_nav,
            "Entity1IntersectAttribute": r.left_column,
            "Entity2LogicalName": r.right,
            "Entity2NavigationPropertyName": r.right_nav,
            "Entity2IntersectAttribute": r.right_column,
            "IntersectEntityName": r.intersect,
        }
        for r in schema.many_to_many
    ]
