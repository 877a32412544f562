"""Functions and actions: their signatures for `$metadata`; `operate` runs them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """`bound`: the type of what it is called on, `Collection(…)` for a set; empty for none."""

    is_function: bool = False
    bound: str = ""
    composable: bool = False
    parameters: dict[str, str] = field(default_factory=dict)
    returns: str = ""


def _function(returns: str, *, bound: str = "", **parameters: str) -> Signature:
    return Signature(is_function=True, bound=bound, parameters=parameters, returns=returns)


def _action(returns: str = "", *, bound: str = "", **parameters: str) -> Signature:
    return Signature(bound=bound, parameters=parameters, returns=returns)


_ROW = "mscrm.crmbaseentity"
_ROWS = "Collection(mscrm.crmbaseentity)"
_STRING = "Edm.String"

OPERATIONS: dict[str, Signature] = {
    "WhoAmI": _function("mscrm.WhoAmIResponse"),
    "RetrieveVersion": _function("mscrm.RetrieveVersionResponse"),
    "RetrieveCurrentOrganization": _function(
        "mscrm.RetrieveCurrentOrganizationResponse", AccessType="mscrm.EndpointAccessType"
    ),
    "RetrieveTotalRecordCount": _function(
        "mscrm.RetrieveTotalRecordCountResponse", EntityNames="Collection(Edm.String)"
    ),
    "RetrieveMetadataChanges": _function(
        "mscrm.RetrieveMetadataChangesResponse", Query="mscrm.EntityQueryExpression"
    ),
    "InitializeFrom": _function(
        _ROW,
        EntityMoniker=_ROW,
        TargetEntityName=_STRING,
        TargetFieldType="mscrm.TargetFieldType",
    ),
    "ExecuteCosmosSqlQuery": _function(
        "mscrm.ExecuteCosmosSqlQueryResponse",
        QueryText=_STRING,
        EntityLogicalName=_STRING,
        QueryParameters="mscrm.ParameterCollection",
    ),
    "RetrievePrincipalAccess": _function(
        "mscrm.RetrievePrincipalAccessResponse", bound="mscrm.principal", Target=_ROW
    ),
    "RetrieveUserPrivileges": _function(
        "mscrm.RetrieveUserPrivilegesResponse", bound="mscrm.systemuser"
    ),
    "RetrieveUserPrivilegeByPrivilegeName": _function(
        "mscrm.RetrieveUserPrivilegesResponse", bound="mscrm.systemuser", PrivilegeName=_STRING
    ),
    "RetrieveAllChildUsersSystemUser": Signature(
        is_function=True,
        bound="mscrm.systemuser",
        composable=True,
        returns="Collection(mscrm.systemuser)",
    ),
    "Merge": _action(
        Target=_ROW, Subordinate=_ROW, UpdateContent=_ROW, PerformParentingChecks="Edm.Boolean"
    ),
    "GrantAccess": _action(Target=_ROW, PrincipalAccess="mscrm.PrincipalAccess"),
    "ModifyAccess": _action(Target=_ROW, PrincipalAccess="mscrm.PrincipalAccess"),
    "RevokeAccess": _action(Target=_ROW, Revokee="mscrm.principal"),
    "WinOpportunity": _action(Status="Edm.Int32", OpportunityClose=_ROW),
    "BulkDelete": _action(
        "mscrm.BulkDeleteResponse",
        QuerySet="Collection(mscrm.QueryExpression)",
        JobName=_STRING,
        SendEmailNotification="Edm.Boolean",
        ToRecipients=_ROWS,
        CCRecipients=_ROWS,
        RecurrencePattern=_STRING,
        StartDateTime="Edm.DateTimeOffset",
    ),
    "PublishAllXml": _action(),
    "PublishXml": _action(ParameterXml=_STRING),
    "CreateEntities": _action(Entities=_ROWS),
    "ExportSolution": _action(
        "mscrm.ExportSolutionResponse", SolutionName=_STRING, Managed="Edm.Boolean"
    ),
    "ImportSolution": _action(
        OverwriteUnmanagedCustomizations="Edm.Boolean",
        PublishWorkflows="Edm.Boolean",
        CustomizationFile="Edm.Binary",
        ImportJobId="Edm.Guid",
    ),
    "InitializeFileBlocksUpload": _action(
        "mscrm.InitializeFileBlocksUploadResponse",
        Target=_ROW,
        FileAttributeName=_STRING,
        FileName=_STRING,
    ),
    "UploadBlock": _action(BlockId=_STRING, BlockData="Edm.Binary", FileContinuationToken=_STRING),
    "CommitFileBlocksUpload": _action(
        "mscrm.CommitFileBlocksUploadResponse",
        FileName=_STRING,
        MimeType=_STRING,
        BlockList="Collection(Edm.String)",
        FileContinuationToken=_STRING,
    ),
    "InitializeFileBlocksDownload": _action(
        "mscrm.InitializeFileBlocksDownloadResponse", Target=_ROW, FileAttributeName=_STRING
    ),
    "DownloadBlock": _action(
        "mscrm.DownloadBlockResponse",
        Offset="Edm.Int64",
        BlockLength="Edm.Int64",
        FileContinuationToken=_STRING,
    ),
    "DeleteFile": _action(FileId="Edm.Guid"),
    "CreatePolymorphicLookupAttribute": _action(
        "mscrm.CreatePolymorphicLookupAttributeResponse",
        Lookup="mscrm.ComplexLookupAttributeMetadata",
        SolutionUniqueName=_STRING,
    ),
    "searchquery": _action(
        "mscrm.searchqueryResponse", search=_STRING, entities=_STRING, filter=_STRING
    ),
    "ExecuteWorkflow": _action("mscrm.workflow", bound="mscrm.workflow", EntityId="Edm.Guid"),
    "AddMembersTeam": _action(bound="mscrm.team", Members="Collection(mscrm.systemuser)"),
    "AddPrivilegesRole": _action(bound="mscrm.role", Privileges="Collection(mscrm.RolePrivilege)"),
    "CreateMultiple": _action("mscrm.CreateMultipleResponse", bound=_ROWS, Targets=_ROWS),
    "UpdateMultiple": _action(bound=_ROWS, Targets=_ROWS),
    "UpsertMultiple": _action("mscrm.UpsertMultipleResponse", bound=_ROWS, Targets=_ROWS),
    "DeleteMultiple": _action(bound=_ROWS, Targets=_ROWS),
    "new_AddNoteToContact": _action(bound="mscrm.contact", NoteTitle=_STRING, NoteText=_STRING),
    "new_CloseProject": _action(bound="mscrm.new_project", Reason=_STRING),
}

COMPLEX_TYPES: dict[str, dict[str, str]] = {
    "WhoAmIResponse": {
        "BusinessUnitId": "Edm.Guid",
        "UserId": "Edm.Guid",
        "OrganizationId": "Edm.Guid",
    },
    "RetrieveVersionResponse": {"Version": _STRING},
    "OrganizationDetail": {
        "OrganizationId": "Edm.Guid",
        "FriendlyName": _STRING,
        "OrganizationVersion": _STRING,
        "EnvironmentId": _STRING,
        "UrlName": _STRING,
        "UniqueName": _STRING,
        "TenantId": "Edm.Guid",
        "Geo": _STRING,
    },
    "RetrieveCurrentOrganizationResponse": {"Detail": "mscrm.OrganizationDetail"},
    "EntityRecordCountCollection": {
        "Count": "Edm.Int32",
        "Keys": "Collection(Edm.String)",
        "Values": "Collection(Edm.Int64)",
    },
    "RetrieveTotalRecordCountResponse": {
        "EntityRecordCountCollection": "mscrm.EntityRecordCountCollection"
    },
    "EntityQueryExpression": {"LanguageQuery": _STRING},
    "RetrieveMetadataChangesResponse": {"ServerVersionStamp": _STRING},
    "ParameterCollection": {"Count": "Edm.Int32", "Keys": "Collection(Edm.String)"},
    "ExecuteCosmosSqlQueryResponse": {"Result": "mscrm.expando"},
    "RetrievePrincipalAccessResponse": {"AccessRights": "mscrm.AccessRights"},
    "RolePrivilege": {
        "Depth": "mscrm.PrivilegeDepth",
        "PrivilegeId": "Edm.Guid",
        "BusinessUnitId": "Edm.Guid",
        "PrivilegeName": _STRING,
    },
    "RetrieveUserPrivilegesResponse": {"RolePrivileges": "Collection(mscrm.RolePrivilege)"},
    "PrincipalAccess": {"AccessMask": "mscrm.AccessRights", "Principal": "mscrm.principal"},
    "QueryExpression": {"EntityName": _STRING},
    "ComplexLookupAttributeMetadata": {"SchemaName": _STRING},
    "CreateMultipleResponse": {"Ids": "Collection(Edm.Guid)"},
    "UpsertMultipleResponse": {"Results": "Collection(mscrm.UpsertResponse)"},
    "UpsertResponse": {"RecordCreated": "Edm.Boolean", "Target": "mscrm.crmbaseentity"},
    "BulkDeleteResponse": {"JobId": "Edm.Guid"},
    "ExportSolutionResponse": {"ExportSolutionFile": "Edm.Binary"},
    "InitializeFileBlocksDownloadResponse": {
        "FileContinuationToken": _STRING,
        "FileSizeInBytes": "Edm.Int64",
        "FileName": _STRING,
        "IsChunkingSupported": "Edm.Boolean",
    },
    "InitializeFileBlocksUploadResponse": {"FileContinuationToken": _STRING},
    "CommitFileBlocksUploadResponse": {"FileId": "Edm.Guid", "FileSizeInBytes": "Edm.Int64"},
    "DownloadBlockResponse": {"Data": "Edm.Binary"},
    "CreatePolymorphicLookupAttributeResponse": {"AttributeId": "Edm.Guid"},
    "searchqueryResponse": {"response": _STRING},
}

ENUMS: dict[str, tuple[str, ...]] = {
    "EndpointAccessType": ("Default", "Internet", "Intranet"),
    "TargetFieldType": ("All", "ValidForCreate", "ValidForUpdate", "ValidForRead"),
    "PrivilegeDepth": ("Basic", "Local", "Deep", "Global"),
    "AccessRights": (
        "None",
        "ReadAccess",
        "WriteAccess",
        "AppendAccess",
        "AppendToAccess",
        "CreateAccess",
        "DeleteAccess",
        "ShareAccess",
        "AssignAccess",
    ),
}
