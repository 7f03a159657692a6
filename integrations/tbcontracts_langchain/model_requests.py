"""What an agent's model request will be sent as, and the same request with a change."""

from __future__ import annotations

from typing import Any

from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import SystemMessage
from langchain_core.runnables import RunnableBinding
from langchain_core.utils.function_calling import convert_to_openai_tool

from tbcontracts_langchain.clamp import Asked, unbound


def asked_by(request: ModelRequest[Any]) -> Asked | None:
    """Return the model and the arguments that a request is sent with; None if that is unknown.

    The tools are bound as the agent will bind them. A structure that is asked for is added to the
    arguments to be counted; the agent sends it in its own way.
    """
    model, settings = request.model, request.model_settings
    if request.tools:
        bound: Any = model.bind_tools(request.tools, tool_choice=request.tool_choice, **settings)
    else:
        bound = model.bind(**settings)
    asked = unbound(bound)
    if asked is None or request.response_format is None:
        return asked
    structure = _structure(getattr(request.response_format, "schema", request.response_format))
    return asked._replace(kwargs={**asked.kwargs, "response_format": structure})


def _structure(schema: Any) -> Any:
    """Return a schema as plain data; its name where it is of an unusual kind."""
    try:
        return convert_to_openai_tool(schema)
    except Exception:
        return str(schema)


def capped(request: ModelRequest[Any], asked: Asked, fitting: Asked) -> ModelRequest[Any]:
    """Return a request with the cap that its model was given, or that stands in its arguments."""
    if fitting.model is not asked.model:
        request = request.override(model=_in_place(request.model, fitting.model))
    changed = {
        name: value for name, value in fitting.kwargs.items() if value != asked.kwargs.get(name)
    }
    if changed:
        request = request.override(model_settings={**request.model_settings, **changed})
    return request


def _in_place(runnable: Any, model: Any) -> Any:
    """Return a model that may have been bound to arguments, around another one."""
    if not isinstance(runnable, RunnableBinding):
        return model
    return runnable.model_copy(update={"bound": _in_place(runnable.bound, model)})


def with_line(request: ModelRequest[Any], line: str) -> ModelRequest[Any]:
    """Return a request with one more line at the end of its system message.

    What stands before it stays as it was, and with it what the provider has cached of it.
    """
    system = request.system_message
    if system is None:
        return request.override(system_message=SystemMessage(line))
    content = system.content
    if isinstance(content, str):
        longer: Any = f"{content}\n\n{line}" if content else line
    else:
        longer = [*content, {"type": "text", "text": line}]
    return request.override(system_message=system.model_copy(update={"content": longer}))
