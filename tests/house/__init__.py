"""The rules of the house as functions from parsed source to findings; the tests apply them."""
