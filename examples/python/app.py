"""Greets, and shows what it was started with: a component from Python, with the interpreter inside.

    pip install -r requirements.txt
    componentize-py --wit-path ../wit --world hello componentize app -o hello-python.wasm
    wasmatrix run hello-python.wasm arg1 arg2

The world `hello` in ../wit says what it asks for and offers.
"""

from wit_world import exports
from wit_world.imports import environment


class Run(exports.Run):
    """The export wasi:cli/run."""

    def run(self) -> None:
        print("Hello from Python!")
        for position, argument in enumerate(environment.get_arguments()[1:], start=1):
            print(f"argument {position}: {argument}")
