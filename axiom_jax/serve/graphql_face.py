"""The GraphQL face: models, model, predict, certificate, health.

Source: GraphQL, October 2021, https://spec.graphql.org; GraphQL over HTTP, https://graphql.github.io/graphql-over-http.
"""

from typing import Any

import strawberry
from fastapi import FastAPI
from graphql import GraphQLError
from starlette.requests import Request
from starlette.responses import Response
from strawberry.extensions import MaskErrors, MaxAliasesLimiter, MaxTokensLimiter, QueryDepthLimiter
from strawberry.scalars import JSON
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types import Info

from axiom_jax._errors import AxiomError
from axiom_jax.serve.engine import Engine
from axiom_jax.serve.limits import Limits, Refusal, status_of, text_of
from axiom_jax.serve.openinference import from_json, numbers, tensor, to_json
from axiom_jax.serve.served import Served
from axiom_jax.serve.tensors import Spec, read_tensor

TOKENS, ALIASES = 2000, 30  # of a query, whose numbers belong into variables


@strawberry.type(description="An input or an output of a model.")
class TensorType:
    name: str
    datatype: str = strawberry.field(description="FP32, INT64, …, as the Open Inference Protocol writes them.")
    shape: list[int] = strawberry.field(description="Sizes; -1 for any.")

    @staticmethod
    def of(spec: Spec) -> "TensorType":
        return TensorType(name=spec.name, datatype=spec.datatype, shape=spec.sizes)


@strawberry.type(description="A file that proves a property of a model; `axiom check` judges it.")
class Certificate:
    model: str
    digest: str = strawberry.field(description="The sha256 of the file.")
    text: str = strawberry.field(description="The file.")


@strawberry.type(description="A model that is served.")
class ServedModel:
    name: str
    version: str
    signature: str
    backend: JSON = strawberry.field(description="Which backend was asked for, which computes, and why.")
    inputs: list[TensorType]
    outputs: list[TensorType]
    certificates: list[Certificate]

    @staticmethod
    def of(served: Served) -> "ServedModel":
        proofs = [Certificate(model=served.name, digest=digest, text=data.decode("utf-8", "replace"))
                  for digest, data in served.certificates.items()]  # fmt: skip
        return ServedModel(
            name=served.name, version=served.version, signature=served.signature, backend=JSON(served.record),
            inputs=list(map(TensorType.of, served.inputs)), outputs=list(map(TensorType.of, served.outputs)),
            certificates=proofs,
        )  # fmt: skip


@strawberry.type(description="Whether the server answers, and with which models.")
class Health:
    status: str
    models: list[str]


@strawberry.input(description="An array: numbers nested by axis, or flat with a shape.")
class TensorInput:
    name: str
    data: JSON
    shape: list[int] | None = None
    datatype: str | None = None


@strawberry.type(description="An array: numbers nested by axis.")
class TensorOutput:
    name: str
    datatype: str
    shape: list[int]
    data: JSON


@strawberry.type(description="The outputs of a model.")
class Prediction:
    model: str
    version: str
    certificate: str | None = strawberry.field(description="The sha256 of the model's certificate.")
    outputs: list[TensorOutput]


def _engine(info: Info) -> Engine:
    return info.context["engine"]


async def _predict(info: Info, inputs: list[TensorInput], model: str | None = None) -> Prediction:
    engine = _engine(info)
    served = engine.get(model)
    arrays = {}
    for i, given in enumerate(inputs):
        at = f"inputs[{i}]"
        spec = served.input.get(given.name)
        if spec is None or spec.name in arrays:
            what = f"has no input named {given.name[:60]!r}" if spec is None else f"is given {given.name!r} twice"
            raise Refusal(f"{served.name} {what}.", at=at, fix=f"inputs: {', '.join(served.input)}")
        arrays[spec.name] = read_tensor(spec, at, engine.limits, shape=given.shape, datatype=given.datatype,
                                        data=given.data)  # fmt: skip
    answer = await engine.infer(served.name, arrays)
    outputs = [TensorOutput(**tensor(name, array), data=numbers(name, array, flat=False))
               for name, array in answer.outputs.items()]  # fmt: skip
    return Prediction(model=answer.model, version=answer.version, certificate=answer.digest, outputs=outputs)


@strawberry.type
class Query:
    predict: Prediction = strawberry.field(resolver=_predict, description="Outputs for inputs.")

    @strawberry.field(description="Whether the server answers, and with which models.")
    def health(self, info: Info) -> Health:
        return Health(status="ok", models=list(_engine(info).models))

    @strawberry.field(description="Every model that is served.")
    def models(self, info: Info) -> list[ServedModel]:
        return [ServedModel.of(served) for served in _engine(info).models.values()]

    @strawberry.field(description="A model by name; null if there is none.")
    def model(self, info: Info, name: str) -> ServedModel | None:
        served = _engine(info).models.get(name)
        return None if served is None else ServedModel.of(served)

    @strawberry.field(description="The certificate of a model, or that with a digest; null if there is none.")
    def certificate(self, info: Info, model: str, digest: str | None = None) -> Certificate | None:
        known = ServedModel.of(_engine(info).get(model)).certificates
        return next((proof for proof in known if digest in (None, proof.digest)), None)


@strawberry.type
class Mutation:
    predict: Prediction = strawberry.mutation(resolver=_predict, description="The same, where queries are cached.")


class Schema(strawberry.Schema):
    """The schema; errors of requests are the client's business and not logged, others are."""

    def process_errors(self, errors: list[GraphQLError], execution_context: Any = None) -> None:
        super().process_errors([error for error in errors if hidden(error)], execution_context)


def hidden(error: GraphQLError) -> bool:
    """Whether an error is a failure of ours, of which the client is not told more than that."""
    return error.original_error is not None and not isinstance(error.original_error, (AxiomError, GraphQLError))


def schema_of(limits: Limits) -> Schema:
    """The schema with its limits.

    >>> "predict(inputs: [TensorInput!]!, model: String = null): Prediction!" in schema_of(Limits()).as_str()
    True
    """
    return Schema(
        query=Query, mutation=Mutation,
        extensions=[
            lambda: QueryDepthLimiter(max_depth=limits.depth),
            lambda: MaxTokensLimiter(max_token_count=TOKENS),
            lambda: MaxAliasesLimiter(max_alias_count=ALIASES),
            lambda: MaskErrors(should_mask_error=hidden, error_message="The server failed."),
        ],
    )  # fmt: skip


def add_graphql(app: FastAPI, engine: Engine) -> None:
    """Serve GraphQL at /graphql of an application: POST with JSON."""
    schema = schema_of(engine.limits)

    async def graphql(request: Request) -> Response:
        """GraphQL: models, model, predict, certificate, health."""
        try:
            asked = await _asked(request)
            result = await schema.execute(asked["query"], variable_values=asked["variables"],
                                          operation_name=asked["operationName"],
                                          context_value={"engine": engine})  # fmt: skip
        except Refusal as error:
            return _answer({"errors": [_error(GraphQLError(str(error), original_error=error))]}, error.status)
        except RecursionError:
            return _answer({"errors": [{"message": "The query is nested too deeply."}]}, 400)
        except (CannotGetOperationTypeError, InvalidOperationTypeError):
            return _answer({"errors": [{"message": "There is no one operation of that name in the query."}]}, 400)
        body: dict[str, Any] = {"data": result.data}
        if result.errors:
            body["errors"] = [_error(error) for error in result.errors]
        failed = result.data is None and all(error.path is None for error in result.errors or ())
        return _answer(body, 400 if result.errors and failed else 200)

    app.post("/graphql", tags=["graphql"], response_class=Response)(graphql)


def graphql_app(engine: Engine) -> FastAPI:
    """The ASGI application that serves GraphQL alone, with `GET /health`.

    >>> [route.path for route in graphql_app(Engine()).routes][-1]
    '/graphql'
    """
    from axiom_jax.serve.rest import Bounded, base_app

    app = base_app(engine)
    app.add_middleware(Bounded, limits=engine.limits)  # pyright: ignore[reportArgumentType]
    add_graphql(app, engine)
    return app


async def _asked(request: Request) -> dict[str, Any]:
    """Query, variables and operation name of a request."""
    from axiom_jax.serve.rest import require_type

    require_type(request)
    given = from_json(await request.body())
    if not isinstance(given, dict) or not isinstance(given.get("query"), str) or not given["query"].strip():
        raise Refusal("The request has no query.", at="request body", fix='{"query": "{ health { status } }"}')
    variables, operation = given.get("variables"), given.get("operationName")
    if not isinstance(variables, dict | None) or not isinstance(operation, str | None):
        raise Refusal("Variables are an object, and an operation's name is text.", at="request body",
                      fix='{"query": "...", "variables": {}}')  # fmt: skip
    return {"query": given["query"], "variables": variables, "operationName": operation}


def _error(error: GraphQLError) -> dict[str, Any]:
    """An error as GraphQL writes it; the parts of ours are its extensions."""
    formatted: dict[str, Any] = dict(error.formatted)
    original = error.original_error
    if isinstance(original, AxiomError):
        formatted["message"] = text_of(original)
        formatted["extensions"] = {**original.to_dict(), "status": status_of(original),
                                   "row": getattr(original, "row", None)}  # fmt: skip
    return formatted


def _answer(body: dict[str, Any], status: int) -> Response:
    return Response(to_json(body), status, media_type="application/json")
