"""A service that stands between a company's services and Microsoft Dataverse."""
