"""The GraphQL queries of MLflow's pages, read with the same rules as its other requests."""

from collections.abc import Iterator, Mapping
from typing import Any

from graphql import GraphQLError, parse
from graphql.language import (
    DocumentNode,
    FieldNode,
    OperationDefinitionNode,
    OperationType,
)
from graphql.utilities import value_from_ast_untyped

from api.runs.tracking_reads import (
    GRAPHQL,
    Asked,
    Named,
    NoReadError,
    RefusedReadError,
    named_in,
)

MOST_TOKENS = 2000
"""The pages' longest query has about 300."""


def asked_by_query(given: Mapping[str, Any]) -> Asked:
    """Read a query with its variables; raises as `asked_of` does."""
    query, variables = given.get("query"), given.get("variables") or {}
    if not isinstance(query, str) or not isinstance(variables, dict):
        raise RefusedReadError("expected {query: text, variables: object}")
    try:
        document = parse(query, no_location=True, max_tokens=MOST_TOKENS)
    except GraphQLError as error:
        raise RefusedReadError(f"the query is not GraphQL: {error.message}") from error
    named = [
        found
        for root in _roots(document)
        if root.name.value != "__typename"
        for found in _named_by(root, variables)
    ]
    # Only what was looked at goes on, e.g. no `extensions`.
    passed = {"query": query, "variables": variables, "operationName": given.get("operationName")}
    return Asked(named, None, passed)


def _roots(document: DocumentNode) -> Iterator[FieldNode]:
    operation = document.definitions[0]
    if (
        len(document.definitions) != 1
        or not isinstance(operation, OperationDefinitionNode)
        or operation.operation is not OperationType.QUERY
    ):
        raise NoReadError("expected one query, without fragments: nothing is changed here")
    for root in operation.selection_set.selections:
        if not isinstance(root, FieldNode):
            raise RefusedReadError("expected plain fields at the query's root, no fragments")
        yield root


def _named_by(root: FieldNode, variables: dict[str, Any]) -> Iterator[Named]:
    read = GRAPHQL.get(root.name.value)
    if read is None or [argument.name.value for argument in root.arguments] != ["input"]:
        listed = ", ".join(GRAPHQL)
        raise NoReadError(f"{root.name.value}: expected one of {listed}, with `input`")
    # A variable's default is not looked at: what is not in `variables` counts as missing.
    value = value_from_ast_untyped(root.arguments[0].value, variables)
    if not isinstance(value, dict):
        raise RefusedReadError(f"{root.name.value}: expected an object as `input`")
    yield from named_in(read, value)
