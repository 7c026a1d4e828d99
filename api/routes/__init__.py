"""The routes: small functions from a request to a response, and the table that names them."""
