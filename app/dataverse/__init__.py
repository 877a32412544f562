"""HTTP on Dataverse's side: the upstream client, headers, links, retries, the schema's fetching."""
