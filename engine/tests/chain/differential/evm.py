"""The local chain as these tests use it: many calls in one `eth_call`, raw ABI, an agent that pays pools."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.grammar import TupleType, parse
from eth_utils.crypto import keccak
from mev_devchain.deploy import rpc_call
from web3 import Web3

from .compare import Reverted

SENDER = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"  # anvil's first account
AGENT = "0x" + "a9" * 20
ZERO = "0x" + "0" * 40
GAS = 10**11
_CALL_GAS = 10**9
_ERROR, _PANIC = bytes.fromhex("08c379a0"), bytes.fromhex("4e487b71")


@dataclass(frozen=True)
class Function:
    """A contract's function by its canonical signature; `returns` is the tuple of its return types."""

    signature: str
    returns: str = "()"

    @cached_property
    def _selector(self) -> bytes:
        return keccak(text=self.signature)[:4]

    @cached_property
    def _types(self) -> tuple[list[str], list[str]]:
        arguments = self.signature[self.signature.index("(") :]
        return _components(arguments), _components(self.returns)

    def __call__(self, *arguments: object) -> bytes:
        """Call data."""
        return self._selector + encode(self._types[0], arguments)

    def decode(self, data: bytes) -> tuple[Any, ...]:
        """Return values."""
        return decode(self._types[1], data)


def _components(types: str) -> list[str]:
    if types == "()":
        return []
    parsed = parse(types)
    assert isinstance(parsed, TupleType)
    return [component.to_type_str() for component in parsed.components]


@dataclass(frozen=True, slots=True)
class Sub:
    """One call of a multicall."""

    to: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Result:
    """Of one call of a multicall."""

    success: bool
    data: bytes

    def revert(self, errors: dict[bytes, str]) -> Reverted:
        """The revert with its reason; `errors` has the names of custom errors by selector."""
        assert not self.success
        selector, rest = self.data[:4], self.data[4:]
        if selector == _ERROR:
            return Reverted(str(decode(["string"], rest)[0]))
        if selector == _PANIC:
            return Reverted(f"Panic({decode(['uint256'], rest)[0]:#04x})")
        return Reverted(errors.get(selector, f"unknown error {self.data.hex()}") if self.data else "")


def selectors(*errors: str) -> dict[bytes, str]:
    """Names of custom errors by selector, from their signatures."""
    return {keccak(text=error)[:4]: error[: error.index("(")] for error in errors}


MULTICALL = Function("multicall((address,uint256,bytes)[])", "(uint256,(bool,uint256,bytes)[])")
MINT, TRANSFER = Function("mint(uint256)"), Function("transfer(address,uint256)")
APPROVE = Function("approve(address,uint256)")


@dataclass
class Chain:
    """A local chain with the two npm folders at hand. `multicall`: the contract that sends every call."""

    web3: Web3
    folders: Sequence[Path]
    multicall: str = field(init=False)

    def __post_init__(self) -> None:
        # in Uniswap's V3 periphery: UniswapInterfaceMulticall
        rpc_call(self.web3, "anvil_setCode", AGENT, "0x" + agent_code().hex())
        self.multicall = self.deploy(
            "@uniswap/v3-periphery/artifacts/contracts/lens/UniswapInterfaceMulticall.sol"
            "/UniswapInterfaceMulticall.json"
        )

    def code(self, path: str, libraries: dict[str, str] | None = None) -> bytes:
        """Creation code of the artifact at `path` in a node_modules folder, its libraries linked."""
        file = next(file for folder in self.folders if (file := folder / path).is_file())
        code = json.loads(file.read_text(encoding="utf-8"))
        code = code.get("bytecode", code.get("creationCode"))
        text: str = code["object"] if isinstance(code, dict) else code
        for placeholder, address in (libraries or {}).items():
            text = text.replace(placeholder, address.removeprefix("0x"))
        assert re.fullmatch("(0x)?[0-9a-fA-F]+", text), f"{path} has libraries to link"
        return bytes.fromhex(text.removeprefix("0x"))

    def deploy(self, path: str, types: str = "()", *arguments: object) -> str:
        """Address of a new contract from an artifact; `types` are the constructor's."""
        return self.create(self.code(path) + encode(_components(types), arguments))

    def create(self, code: bytes) -> str:
        """Address of a new contract from creation code."""
        return str(self._send({"data": "0x" + code.hex()})["contractAddress"])

    def send(self, to: str, data: bytes) -> None:
        """A transaction of its own, which must succeed."""
        self._send({"to": to, "data": "0x" + data.hex()})

    def gas(self, to: str, data: bytes) -> int:
        """Gas units that such a transaction used, seconds after the one before: then pairs and pools write
        what they keep about prices over time, as they do on a chain."""
        rpc_call(self.web3, "evm_increaseTime", 12)
        return int(self._send({"to": to, "data": "0x" + data.hex()})["gasUsed"], 16)

    def bundle_gas(self, subs: Iterable[Sub]) -> int:
        """Gas units of one transaction of the multicall contract with these calls, which must succeed."""
        subs = list(subs)
        for sub, result in zip(subs, self.call(subs), strict=True):
            assert result.success, (sub.to, sub.data.hex(), result.revert({}))
        return self.gas(self.multicall, _bundle(subs))

    def _send(self, transaction: dict[str, str]) -> Any:
        transaction |= {"from": SENDER, "gas": hex(GAS)}
        sent = rpc_call(self.web3, "eth_sendTransaction", transaction)
        rpc_call(self.web3, "evm_mine")
        receipt = rpc_call(self.web3, "eth_getTransactionReceipt", sent)
        assert receipt["status"] == "0x1", transaction
        return receipt

    def transact(self, subs: Iterable[Sub]) -> None:
        """The calls, each of which must succeed, in one transaction of the multicall contract."""
        self.bundle_gas(subs)

    def call(
        self, subs: Iterable[Sub], overrides: dict[str, dict[str, dict[str, str]]] | None = None
    ) -> list[Result]:
        """What the calls return, one after the other on one state, which is then dropped.

        `overrides`: the state that the first one finds, as `eth_call` takes it.
        """
        request = {"from": SENDER, "to": self.multicall, "gas": hex(GAS)}
        request["data"] = "0x" + _bundle(subs).hex()
        answer = rpc_call(self.web3, "eth_call", request, "latest", overrides or {})
        _, results = MULTICALL.decode(bytes.fromhex(answer[2:]))
        return [Result(success, data) for success, _, data in results]

    def read(self, to: str, function: Function, *arguments: object) -> tuple[Any, ...]:
        """Return values of one call that must succeed."""
        (result,) = self.call([Sub(to, function(*arguments))])
        assert result.success, (to, function.signature, arguments)
        return function.decode(result.data)

    def tokens(self, count: int, decimals: int = 18) -> list[str]:
        """New tokens, addresses ascending; the agent and the multicall contract hold 2**250 of each."""
        path = "@aave/core-v3/artifacts/contracts/mocks/tokens/MintableERC20.sol/MintableERC20.json"
        made = [self.deploy(path, "(string,string,uint8)", "T", "T", decimals) for _ in range(count)]
        for token in made:
            self.transact([Sub(token, MINT(2**250)), by_agent(token, MINT(2**250))])
        return sorted(made)


def _bundle(subs: Iterable[Sub]) -> bytes:
    return MULTICALL([(sub.to, _CALL_GAS, sub.data) for sub in subs])


def by_agent(to: str, data: bytes) -> Sub:
    """The same call, sent by the agent."""
    return Sub(AGENT, bytes(12) + bytes.fromhex(to[2:]) + data)


def callback_data(token0: str, token1: str) -> bytes:
    """What a V3 pool must hand back to the agent, so that it knows the tokens."""
    return bytes(encode(["address", "address"], [token0, token1]))


def agent_code() -> bytes:
    """Runtime code of a contract that sends on calls and pays V3 pools that call it back.

    Call data beginning with an address (32 bytes, so its first 4 are zero): the rest is sent there, and
    the answer or the revert handed back. Anything else is a callback `(int256, int256, bytes)` of mint or
    swap: each positive amount of the two is paid to the caller, in the tokens that the bytes name.
    """
    pay_one = """
        PUSH4 a9059cbb PUSH1 e0 SHL PUSH0 MSTORE   # transfer(
        CALLER PUSH1 04 MSTORE                     #   caller,
        PUSH1 {amount} CALLDATALOAD DUP1 PUSH1 24 MSTORE  # amount)
        PUSH0 SLT ISZERO PUSH1 :{skip} JUMPI       # nothing owed
        PUSH0 PUSH0 PUSH1 44 PUSH0 PUSH0 PUSH1 {token} CALLDATALOAD GAS CALL
        ISZERO PUSH1 :fail JUMPI
        :{skip} JUMPDEST
    """
    return _assemble(
        """
        PUSH0 CALLDATALOAD PUSH1 e0 SHR PUSH1 :pay JUMPI
        PUSH1 20 CALLDATASIZE SUB                  # size of what is sent on, kept on the stack
        DUP1 PUSH1 20 PUSH0 CALLDATACOPY
        PUSH0 PUSH0 DUP3 PUSH0 PUSH0 PUSH0 CALLDATALOAD GAS CALL
        RETURNDATASIZE PUSH0 PUSH0 RETURNDATACOPY
        RETURNDATASIZE PUSH0 DUP3 PUSH1 :good JUMPI
        REVERT
        :good JUMPDEST RETURN
        :pay JUMPDEST
        """
        + pay_one.format(amount="04", token="84", skip="second")
        + pay_one.format(amount="24", token="a4", skip="done")
        + "STOP :fail JUMPDEST PUSH0 PUSH0 REVERT"
    )


def pool_maker_code(words: Sequence[int]) -> bytes:
    """Runtime code of a contract that creates contracts from call data and answers their `parameters()`.

    A V3 pool's constructor asks its creator for its parameters: these are `words`.
    """
    answer = " ".join(f"PUSH32 {word:064x} PUSH1 {32 * i:02x} MSTORE" for i, word in enumerate(words))
    return _assemble(
        f"""
        PUSH1 04 CALLDATASIZE EQ PUSH1 :answer JUMPI
        CALLDATASIZE PUSH0 PUSH0 CALLDATACOPY
        CALLDATASIZE PUSH0 PUSH0 CREATE
        PUSH0 MSTORE PUSH1 20 PUSH0 RETURN
        :answer JUMPDEST {answer}
        PUSH1 {32 * len(words):02x} PUSH0 RETURN
        """
    )


_OPCODES = {
    "STOP": 0x00, "SUB": 0x03, "SLT": 0x12, "EQ": 0x14, "ISZERO": 0x15, "SHL": 0x1B, "SHR": 0x1C,
    "CALLER": 0x33, "CALLDATALOAD": 0x35, "CALLDATASIZE": 0x36, "CALLDATACOPY": 0x37,
    "RETURNDATASIZE": 0x3D, "RETURNDATACOPY": 0x3E, "MSTORE": 0x52, "JUMPI": 0x57, "GAS": 0x5A,
    "JUMPDEST": 0x5B, "PUSH0": 0x5F, "PUSH1": 0x60, "PUSH4": 0x63, "PUSH32": 0x7F, "DUP1": 0x80,
    "DUP3": 0x82, "CREATE": 0xF0, "CALL": 0xF1, "RETURN": 0xF3, "REVERT": 0xFD,
}  # fmt: skip


def _assemble(source: str) -> bytes:
    """Code from mnemonics and hex operands; `:name` before JUMPDEST sets a label, after PUSH1 takes it."""
    code, labels, uses = bytearray(), {}, []
    words = [word for line in source.splitlines() for word in line.split("#")[0].split()]
    for before, word in zip(["", *words], words, strict=False):
        if word.startswith(":") and before == "PUSH1":
            uses.append((len(code), word))
            code.append(0)
        elif word.startswith(":"):
            labels[word] = len(code)
        elif before.startswith("PUSH") and before != "PUSH0":
            code += bytes.fromhex(word)
        else:
            code.append(_OPCODES[word])
    for at, label in uses:
        code[at] = labels[label]
    return bytes(code)
