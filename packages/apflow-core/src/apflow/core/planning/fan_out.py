"""Fan-out over data: the tasks of the elements of a list, and the result that is collected from them. Pure.

A task with `for_each` is a group. When its dependencies have ended, its list is evaluated, and the tasks of
all elements are created in the change that starts it: a task that is in progress has all of its elements, and
one that is pending and has elements keeps them. Each element is an instance of the template: the task itself,
or the tree in `for_each.tasks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

from apflow.core.errors import InvalidInputError
from apflow.core.model.custom_columns import custom_fields
from apflow.core.model.for_each import ForEach, element_key, has_for_each
from apflow.core.model.ids import ElementIds
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import GROUP, Dependency, Json, Task
from apflow.core.payload.elements import Element, fill, refers_to_elements, reserved_in
from apflow.core.payload.inputs import find_references, remap_references, resolved_value
from apflow.core.payload.json_value import dumps
from apflow.core.planning.deadlock import find_deadlock
from apflow.core.planning.outcome import FOR_EACH_INVALID, TOO_LARGE, Outcome, cancelled, failed
from apflow.core.planning.plan import choose_executor

MAX_KEY: Final = 255  # characters
# Of the policy: what concerns the task as a whole, not each element.
_OWN_POLICY: Final = ("for_each", "when", "trigger", "budget")


@dataclass(frozen=True, slots=True)
class FanOutLimits:
    """What a process can do, and allows."""

    max_tasks: int = 200_000  # of a tree
    max_result_bytes: int = 10 << 20
    max_referenced_bytes: int = 32 << 20
    is_known: Callable[[str], bool] = lambda _: True  # whether this process knows an executor id


@dataclass(frozen=True, slots=True)
class _Part:
    """One task of the template, prepared for many elements."""

    task: Task
    suffix: str  # of the keys of its instances; "" for the root
    has_items: bool  # inputs, params or an inner `for_each` refer to the element
    has_sources: bool  # inputs, or an inner `for_each`, may refer to other tasks of the template


def template_of(task: Task) -> list[Task]:
    """Return the tasks of which each element of a task with `for_each` is an instance, the root first.

    Their ids are their keys within the template. `executor` is not decided.
    """
    for_each = cast("ForEach", ForEach.of(task))
    if for_each.tasks is not None:
        return [_templated(entry) for entry in for_each.tasks]
    policy = {name: each for name, each in task.policy.items() if name not in _OWN_POLICY}
    sources = {each.source for each in find_references(task.inputs)}
    needed = [each for each in task.dependencies if each["id"] in sources]
    own = Task(
        id="",
        key=task.key,
        name=task.name,
        root_id="",
        priority=task.priority,
        dependencies=needed,
        inputs=task.inputs,
        params=task.params,
        schemas=task.schemas,
        policy=policy,
        label=task.label,
        tags=task.tags,
        extra=task.extra,
    )
    return [own]


def _templated(entry: Mapping[str, Json]) -> Task:
    return Task(
        id=entry["id"],
        name=entry["name"],
        root_id="",
        parent_id=entry.get("parent_id"),
        priority=entry.get("priority", 2),
        dependencies=entry.get("dependencies") or [],
        inputs=entry.get("inputs") or {},
        params=entry.get("params") or {},
        schemas=entry.get("schemas") or {},
        policy=entry.get("policy") or {},
        label=entry.get("label"),
        tags=entry.get("tags") or [],
        has_children=bool(entry.get("has_children")),
        extra={name: entry[name] for name in custom_fields() if name in entry},
    )


def templates_within(tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks of the templates of some tasks, and those of the templates in them."""
    found: list[Task] = []
    waiting = list(reversed(tasks))
    while waiting:
        task = waiting.pop()
        if has_for_each(task):
            template = template_of(task)
            found.extend(template)
            waiting.extend(reversed(template))
    return found


def called_tasks(tasks: Sequence[Task], is_known: Callable[[str], bool]) -> Iterator[Task]:
    """Yield the tasks for which an executor is called, with `executor` decided.

    Instead of a task with `for_each`, these are the tasks of its template; they come last.

    Args:
        is_known: returns whether this process knows an executor id.
    """
    for task in [*tasks, *templates_within(tasks)]:
        if not has_for_each(task):
            yield task if task.executor else replace(task, executor=choose_executor(task, is_known))


def expand(
    task: Task, tasks: Mapping[str, Task], position: int, limits: FanOutLimits
) -> list[Task] | Outcome:
    """Return the tasks of all elements of a task, in order of position, or why there can be none.

    Args:
        task: has `for_each`; its dependencies have ended.
        tasks: of the tree.
        position: of the first new task.
    """
    for_each = cast("ForEach", ForEach.of(task))
    try:
        items = _items(task, for_each, tasks, limits)
        batch = for_each.batch
        elements = items if batch is None else [items[at : at + batch] for at in range(0, len(items), batch)]
        template = _prepared(task, limits)
        _check_room(len(elements), len(template), len(tasks), limits)
        return list(_instances(task, template, elements, position))
    except InvalidInputError as error:
        return failed(FOR_EACH_INVALID, f"{error}.", violations=error.violations or [str(error)])


def _check_room(elements: int, template: int, present: int, limits: FanOutLimits) -> None:
    if present + elements * template > limits.max_tasks:
        raise InvalidInputError(
            f"{elements:,} elements of {template:,} tasks are too many for the tree, which has {present:,} "
            f"tasks: max_tasks is {limits.max_tasks:,}. Use batches, or several trees"
        )


def _items(task: Task, for_each: ForEach, tasks: Mapping[str, Task], limits: FanOutLimits) -> list[Json]:
    """Return the list of a task.

    Raises:
        InvalidInputError: it is not a list, it is too long, or it has what would be taken for a reference.
    """
    results = {
        each["id"]: tasks[each["id"]].result
        for each in task.dependencies
        if each["id"] in tasks and tasks[each["id"]].status is TaskStatus.COMPLETED
    }
    place = "for_each.items"
    most = limits.max_referenced_bytes
    items = resolved_value(for_each.items, task, results, most, place, _check_data)
    if not isinstance(items, list):
        raise InvalidInputError(
            f"{place} gives {_kind(items)}, not a list. Name the list by a path, such as "
            '{"$from": "TASK", "path": "rows"}'
        )
    listed = cast("list[Json]", items)
    if len(listed) > for_each.max_items:
        raise InvalidInputError(
            f"{place} has {len(listed):,} items, more than max_items, {for_each.max_items:,}. Nothing was "
            "created. Raise max_items, or take fewer items"
        )
    return listed


def _check_data(value: Json, place: str) -> None:
    """Refuse a value from a result that would be taken for a reference where it is put in."""
    if (found := reserved_in(value)) is not None:
        where, name = found
        raise InvalidInputError(
            f"{place}{where} has a member {name!r}, which would be taken for a reference. A list that comes "
            "from a result cannot have it: rename it by the path"
        )


def _kind(value: Json) -> str:
    if value is None:
        return "null"
    kinds = ((dict, "an object"), (str, "text"), (bool, "true or false"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "a number")


def _prepared(task: Task, limits: FanOutLimits) -> list[_Part]:
    """Return the template with the executors of its tasks.

    Raises:
        InvalidInputError: its tasks wait for each other.
    """
    template = template_of(task)
    for each in template:
        each.executor = choose_executor(each, limits.is_known)
    if cycle := find_deadlock(template):
        raise InvalidInputError(f"In for_each.tasks, tasks wait for each other: {' -> '.join(cycle[:6])}")
    return [_part(each) for each in template]


def _part(task: Task) -> _Part:
    inner = task.policy.get("for_each")
    return _Part(
        task,
        "" if task.parent_id is None else f".{task.id}",
        has_items=refers_to_elements([task.inputs, task.params, inner]),
        has_sources=inner is not None or b'"$from"' in dumps(task.inputs),
    )


def _instances(
    task: Task, template: Sequence[_Part], elements: Sequence[Json], position: int
) -> Iterator[Task]:
    ids = ElementIds(task.id, task.generation)
    for index, item in enumerate(elements):
        element = Element(task.name, index, item)
        key = element_key(task.key, index)
        real = {part.task.id: ids.of(index, part.suffix) for part in template}
        for part in template:
            yield _instance(task, part, element, key + part.suffix, real, position)
            position += 1


def _instance(
    task: Task, part: _Part, element: Element, key: str, real: Mapping[str, str], position: int
) -> Task:
    made = part.task.copy()
    made.id = real[part.task.id]
    made.key = key if len(key) <= MAX_KEY else made.id
    made.root_id, made.user_id, made.position = task.root_id, task.user_id, position
    made.parent_id = task.id if part.task.parent_id is None else real[part.task.parent_id]
    if part.has_items:
        _fill(made, element)
    if part.task.dependencies:
        made.dependencies = [_dependency(each, real) for each in part.task.dependencies]
    if part.has_sources:
        made.inputs = remap_references(made.inputs, real)
        made.policy = remap_for_each(made.policy, real)
    return made


def _fill(made: Task, element: Element) -> None:
    """Put the element in the places of the references to it.

    The inputs and params of a task with an inner `for_each` belong to the template of that: there, only
    references that name this one are filled.
    """
    inner = made.policy.get("for_each")
    is_nearest = inner is None
    made.inputs = fill(made.inputs, element, "inputs", is_nearest=is_nearest)
    made.params = fill(made.params, element, "params", is_nearest=is_nearest)
    if inner is not None:
        filled = {**inner, "items": fill(inner["items"], element, "for_each.items", is_nearest=True)}
        if inner.get("tasks") is not None:
            filled["tasks"] = fill(inner["tasks"], element, "for_each.tasks", is_nearest=False)
        made.policy = {**made.policy, "for_each": filled}


def _dependency(dependency: Dependency, real: Mapping[str, str]) -> Dependency:
    """Return the dependency of an instance. What is outside of the template has ended, however it did."""
    if dependency["id"] in real:
        return _renamed(dependency, real)
    return {**dependency, "required": False}


def _renamed(dependency: Dependency, real: Mapping[str, str]) -> Dependency:
    return {**dependency, "id": real.get(dependency["id"], dependency["id"])}


def remap_for_each(policy: Mapping[str, Json], real: Mapping[str, str]) -> dict[str, Json]:
    """Return a policy whose `for_each` names other ids of dependencies, as `remap_references` does.

    In `for_each.tasks`, the names of tasks of the template are those, whatever else has the same name.
    """
    for_each = policy.get("for_each")
    if not for_each:
        return dict(policy)
    changed = {**for_each, "items": remap_references({"items": for_each["items"]}, real)["items"]}
    if for_each.get("tasks"):
        inside = {entry["id"] for entry in for_each["tasks"]}
        if not inside.isdisjoint(real):
            real = {name: each for name, each in real.items() if name not in inside}
        changed["tasks"] = [_remapped_entry(entry, real) for entry in for_each["tasks"]]
    return {**policy, "for_each": changed}


def _remapped_entry(entry: Mapping[str, Json], real: Mapping[str, str]) -> dict[str, Json]:
    changed = dict(entry)
    if entry.get("dependencies"):
        changed["dependencies"] = [_renamed(each, real) for each in entry["dependencies"]]
    if entry.get("inputs"):
        changed["inputs"] = remap_references(entry["inputs"], real)
    if entry.get("policy"):
        changed["policy"] = remap_for_each(entry["policy"], real)
    return changed


def collect(
    task: Task, tasks: Mapping[str, Task], children: Mapping[str, Sequence[str]], limits: FanOutLimits
) -> Outcome:
    """Return the outcome of a task whose elements have ended, and of which few enough have failed.

    The result is the list of the results of the elements, in order; that of an element which did not complete
    is null.
    """
    if task.cancel_requested_at is not None:
        return cancelled(task.error)
    elements = [tasks[each] for each in children.get(task.id, ())]
    for_each = cast("ForEach", ForEach.of(task))
    if not for_each.collect:
        return Outcome(TaskStatus.COMPLETED, _counted(elements))
    results: list[Json] = []
    size = 2
    for element in elements:
        result = _result_of(element, tasks, children)
        size += 1 + len(dumps(result))
        if size > limits.max_result_bytes:
            message = (
                f"The results of the {len(elements):,} elements have more than {limits.max_result_bytes:,} "
                "bytes. Store them elsewhere and return where, or set for_each.collect to false; each "
                "element keeps its own result."
            )
            return failed(TOO_LARGE, message)
        results.append(result)
    return Outcome(TaskStatus.COMPLETED, results, size=size)


def _counted(elements: Sequence[Task]) -> dict[str, Json]:
    states = [str(each.status) for each in elements]
    return {"elements": len(states)} | {name: states.count(name) for name in sorted(set(states))}


def _result_of(element: Task, tasks: Mapping[str, Task], children: Mapping[str, Sequence[str]]) -> Json:
    """Return the result of an element; for a group, the results of the tasks directly in it, by key."""
    if element.status is not TaskStatus.COMPLETED:
        return None
    if element.executor != GROUP or has_for_each(element):
        return element.result
    inside = [tasks[each] for each in children.get(element.id, ())]
    return {
        each.key.removeprefix(f"{element.key}."): each.result if each.status is TaskStatus.COMPLETED else None
        for each in inside
    }


def without_items(task: Task) -> Task:
    """Return a task with `for_each` as one task: for a forecast, which does not know the list."""
    policy = {name: each for name, each in task.policy.items() if name != "for_each"}
    return replace(task, policy=policy, executor=":for_each")
