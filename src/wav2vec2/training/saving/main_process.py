"""Work that the main process of a run does before the others, or for all of them: nearly everything with files."""

from collections.abc import Callable
from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

T = TypeVar("T")


def told_by_main(accelerator: Accelerator, work: Callable[[], T], elsewhere: Callable[[Exception], Exception]) -> T:
    """Let the main process alone do `work`, and give what it returns on all processes. All processes must call.

    If it fails, it fails on all of them: the main process raises its own error, and each of the others the error that
    `elsewhere` makes of it. What is returned or made is sent to the others, so it must be something that pickle takes.
    """
    if accelerator.num_processes == 1:
        return work()
    answer: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            answer[0] = work()
        except Exception as error:
            broadcast_object_list([None, elsewhere(error)])
            raise
    broadcast_object_list(answer)
    result, failure = answer
    if failure is not None:
        raise failure
    return result


def on_main_first(accelerator: Accelerator, work: Callable[[], T], elsewhere: Callable[[Exception], Exception]) -> T:
    """Let every process do `work` and return its own result, the others only when the main process is done.

    So they find what it has kept for them, in a cache for example. If it fails on the main process, the others do not
    begin, and fail as they do with `told_by_main`.
    """
    done: list[T] = []
    told_by_main(accelerator, lambda: done.append(work()), elsewhere)
    return done[0] if accelerator.is_main_process else work()
