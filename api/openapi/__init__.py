"""The description of the HTTP interface, as OpenAPI: generated from the route table and the shapes of the requests."""
