"""Where and how to compute: devices, precision, seeds, threads."""

import contextlib
import functools
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import numpy as np
import torch
from sklearn.utils import check_random_state

# torch has one random number generator for all threads of a process
_RNG_LOCK = threading.RLock()


@contextlib.contextmanager
def seeded(seed, device="cpu"):
    """Run with torch's generators seeded and gradients on; afterwards all is as it was."""
    cuda = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with (
        _RNG_LOCK,
        torch.random.fork_rng(devices=cuda),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(cuda[0]):
                torch.cuda.manual_seed(seed)
        yield


@contextlib.contextmanager
def one_thread():
    """Run torch's CPU operations on one thread: small layers gain nothing from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def side_by_side(functions, cancelled):
    """Run functions in threads of their own, each with one torch thread; give their results.

    Parameters
    ----------
    functions : list of callable
        They must not draw from torch's global generator, which threads share.
    cancelled : threading.Event
        Set when one fails or Ctrl-C is pressed: then the others should end.

    Returns
    -------
    list
    """
    with one_thread(), ThreadPoolExecutor(len(functions)) as pool:
        try:
            futures = [pool.submit(function) for function in functions]
            # wake up now and then: not every system lets Ctrl-C end a wait
            pending = futures
            while pending:
                done, pending = wait(pending, timeout=0.1, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            return [future.result() for future in futures]
        except BaseException:
            cancelled.set()
            raise


def draw_seed(random_state):
    """Draw a seed; None takes fresh entropy, and leaves numpy's global generator alone."""
    rng = np.random.RandomState() if random_state is None else check_random_state(random_state)
    return int(rng.randint(2**31 - 1))


def resolve_device(device):
    """Turn "auto" into the best device there is; ValueError for one that is not there."""
    if device == "auto":
        return "cuda" if "cuda:0" in _devices() else "cpu"
    try:
        asked = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device={device!r} is not 'auto' or a device of torch: {error}") from None
    except TypeError:
        raise ValueError(f"device must be 'auto', 'cpu' or the like, got {device!r}.") from None
    # for the CPU, no GPU is woken up
    if asked.type != "cpu" and f"{asked.type}:{asked.index or 0}" not in _devices():
        raise ValueError(
            f"device={device!r} is not there. This machine has "
            f"{', '.join(map(repr, _devices()))}; device='auto' takes the best."
        )
    return str(asked)


@functools.cache
def _devices():
    """Name the devices of this machine, the CPU first."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    n = 0 if accelerator is None else torch.accelerator.device_count()
    return ["cpu", *(f"{accelerator.type}:{i}" for i in range(n))]


def resolve_precision(precision, device, layout):
    """Turn "auto" into what is free: bfloat16 for pictures on a GPU that has it."""
    if precision != "auto":
        return precision
    if layout == "features" or torch.device(device).type != "cuda":
        return "float32"
    with torch.cuda.device(device):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


def autocast(device, precision):
    """Run networks in a precision; weights stay in float32."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)
