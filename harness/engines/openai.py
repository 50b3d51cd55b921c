"""Engine for any server that speaks OpenAI's chat completions: OpenAI, Azure, vLLM, a proxy of your own.

Sends, retries, counts and pays; what a request says is the strategies' business. The key is read from the
environment for each request and kept nowhere. What goes over the wire is in `_wire`.
"""

from __future__ import annotations

import copy
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import httpx
import tenacity

from breakeven.harness import egress
from breakeven.harness.contracts import Capabilities, Completion, ModelCard, Request, Usage
from breakeven.harness.deployments import FILE as HOSTING
from breakeven.harness.deployments import Deployment, Plan, Record
from breakeven.harness.engines import _batch, _hosted_choices, _wire
from breakeven.harness.engines._in_batches import close_orphans, in_batches
from breakeven.harness.engines._parallel import in_parallel
from breakeven.harness.errors import NotApplicable, UserError
from breakeven.harness.hosted import Endpoint, HostedModel
from breakeven.harness.prices import PriceBook, TokenPrice, batch_name
from breakeven.harness.spending import SpendGuard

OPENAI_URL = "https://api.openai.com/v1"
#: Requests to a group: what a crash may interrupt, not what is under way at once.
GROUP = 64
#: A server that asks for a longer pause than this is not waited for.
LONGEST_WAIT = 120.0
_FIRST_WAIT, _WIDEST_WAIT = 0.5, 30.0


def openai(
    model: str,
    *,
    base_url: str | None = None,
    api_key_env: str = "OPENAI_API_KEY",
    concurrency: int = 8,
    timeout: float = 60.0,
    retries: int = 6,
    price_as: str = "",
    max_spend: float | None = None,
    allow_unpriced: bool = False,
    allow_http: bool = False,
    reasoning_tokens: int = 0,
    context: int | None = None,
    body: Mapping[str, Any] | None = None,
    auth: Literal["bearer", "api-key"] = "bearer",
    choices: _hosted_choices.Mode = "",
    requests_per_minute: float | None = None,
    batch: bool = False,
    batch_wait: float = 60.0,
    batch_minutes: float = 15.0,
) -> OpenAIEngine:
    """A model behind an OpenAI-compatible server.

    Args:
        model: the name the server knows (on Azure the deployment's name).
        base_url: of the server, up to and with "/v1"; OpenAI's own unless told.
        api_key_env: the environment variable that holds the key; "" sends none.
        concurrency: most requests under way at once.
        timeout: seconds to wait for an answer.
        retries: further attempts after a 429, a 5xx, a timeout or a broken connection.
        price_as: the name in the price book ("gpt-4o-mini", "azure/gpt-4o-mini"), where the model's own name
            says nothing: proxies, deployments.
        max_spend: a limit for this engine alone; refused in a suite, whose `limits: {spend: ...}` all its
            engines share (`bill_to`).
        allow_unpriced: go on when nobody knows the price; costs are then unknown, and no limit can hold.
        allow_http: send the data and the key unencrypted to another machine.
        reasoning_tokens: room for hidden reasoning, on top of the answer's own.
        context: the model's context window in tokens, where the price list does not know it.
        body: further fields of a request ({"reasoning_effort": "low"}); null leaves one out
            ({"temperature": null} for models that refuse it).
        auth: how the key is sent: as a bearer token, or in Azure's header "api-key".
        choices: how the server scores choices: "prompt" by the log-probabilities of a prompt (vLLM; exact,
            and billed as a prompt for each choice), "first-token" by those of the first token of an answer
            (OpenAI, llama.cpp, Ollama; enough for choices that begin differently), "" not at all.
        requests_per_minute: send no more than this, before the server has to refuse.
        batch: send all requests as one file to the provider's batch mode: within a day, at its lower price.
        batch_wait: seconds to wait for a batch before other cells go on; `batch_minutes`: when to look again.
    """
    if choices not in ("", "prompt", "first-token"):
        raise UserError(f"'{choices}' is not prompt or first-token", field="choices")
    if choices and batch:
        raise UserError("a batch gives no scores of choices", field="choices", hint="leave one of them out")
    return OpenAIEngine(
        model,
        server=_wire.Server(base_url or OPENAI_URL, api_key_env, allow_http=allow_http, auth=auth),
        shape=_wire.Shape(model, base_url or OPENAI_URL, reasoning_tokens, dict(body or {})),
        concurrency=_at_least(1, concurrency, "concurrency"),
        timeout=timeout,
        retries=_at_least(0, retries, "retries"),
        price_as=price_as,
        max_spend=max_spend,
        allow_unpriced=allow_unpriced,
        context=context,
        choices=choices,
        requests_per_minute=requests_per_minute,
        batch=(batch_wait, batch_minutes) if batch else None,
    )


class OpenAIEngine:
    """See `openai`. Completions come as they finish; each depends on its request alone."""

    #: Of a tuned model that must be deployed to be asked, and the cell that asks; see `deployments.serving`.
    deployment: Deployment | None = None
    owner = ""

    def __init__(
        self,
        model: str,
        *,
        server: _wire.Server,
        shape: _wire.Shape,
        concurrency: int,
        timeout: float,
        retries: int,
        price_as: str,
        max_spend: float | None,
        allow_unpriced: bool,
        context: int | None,
        choices: _hosted_choices.Mode = "",
        requests_per_minute: float | None = None,
        batch: tuple[float, float] | None = None,
    ) -> None:
        self.model, self.concurrency = model, concurrency
        self.capabilities = Capabilities(logprobs=bool(choices))
        self._choices, self._pace, self._batch = choices, Pace(requests_per_minute), batch
        self._batches_file: Path | None = None
        self.sleep: Callable[[int | float], None] | None = None  # None: wait, or until told to stop
        self._server, self._shape = server, shape
        self._retries, self._context = retries, context
        self._allow_unpriced = allow_unpriced
        self._timeout = timeout
        self._guard, self._own_limit = SpendGuard(max_spend), max_spend
        self._allow_hosts: tuple[str, ...] | None = None
        self._hosting = Record(None)
        self._failed: dict[str, UserError] = {}
        self._book: PriceBook | None = None
        self._price_as = price_as or server.price_name(model)
        self._card: ModelCard | None = None
        self._client = httpx.Client(
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0)),
            limits=httpx.Limits(max_connections=concurrency, keepalive_expiry=60.0),
            trust_env=not server.is_loopback,  # no proxy to oneself
        )

    def bill_to(
        self, guard: SpendGuard, prices: PriceBook, *, allow_unpriced: bool = False, asks: bool = True
    ) -> None:
        """Let a run share its purse and its price book. Raises what `check` raises; without a key only if it
        `asks`."""
        if self._own_limit is not None:
            raise UserError(
                "a run has one purse for all its models",
                field="max_spend",
                hint=f"say it in the suite as limits: {{spend: {self._own_limit:g}}}",
            )
        if guard.currency != prices.currency:
            raise ValueError(f"a purse in {guard.currency} cannot pay prices in {prices.currency}")
        self._guard, self._book, self._card = guard, prices, None
        self._allow_unpriced = self._allow_unpriced or allow_unpriced
        if asks:
            self.check()
        else:
            self._price()

    def stay_within(self, hosts: Sequence[str] | None) -> None:
        """From now on nothing is sent to other hosts. Raises UserError when this engine's is another one."""
        self._allow_hosts = tuple(hosts) if hosts is not None else None
        self._check_host(self._server.host, f"model '{self.model}'")

    def keep_hosting(self, folder: Path) -> None:
        """Write down in this folder what is deployed or sent as a batch, so that a crash leaves nothing
        unnoticed."""
        self._hosting = Record(folder / HOSTING)
        self._batches_file = folder / _batch.FILE

    def endpoint(self) -> Endpoint:
        """This server for a hosted trainer."""
        server = self._server
        return Endpoint(
            model=self.model,
            base_url=server.base_url,
            host=server.host,
            api_key_env=server.api_key_env,
            is_loopback=server.is_loopback,
            timeout=self._timeout,
            auth=server,
            clean=server.clean,
            check_key=server.check_key,
            price_name=server.price_name,
            price_as=self._price_as,
            book=self._prices(),
            guard=self._guard,
            allow_unpriced=self._allow_unpriced,
            check_host=self._check_host,
            batch=self._batch is not None,
            failed=self._failed,
        )

    def _check_host(self, host: str, who: str) -> None:
        egress.check(host, self._allow_hosts, who)

    def check(self) -> None:
        """Raises UserError when a request could not be sent: no key, no price. Sends nothing."""
        self._server.check_key()
        self._price()

    def has_no_price(self) -> bool:
        """Whether nobody says what its tokens cost, so that no limit can hold."""
        return self._prices().token_price(self._token_name) is None

    def describe(self) -> ModelCard:
        if self._card is None:
            price = self._prices().token_price(self._token_name)
            how = [self._choices] if self._choices else []
            asked = json.dumps([self._server.base_url, self._shape.fingerprint, *how], sort_keys=True)
            self._card = ModelCard(
                name=self.model,
                engine="openai",
                context=self._context or (price.context if price else None),
                data_goes_to=self._server.host,
                digest=hashlib.sha256(asked.encode()).hexdigest()[:16],
                price_as=self._token_name,
                hosting=self.deployment.plan.hour if self.deployment is not None else "",
            )
        return self._card

    def plan(self, requests: Sequence[Request], concurrency: int | None = None) -> list[list[Request]]:
        """Groups in the given order; answers do not depend on them."""
        if self._batch is not None:
            return _batch.groups(requests, self._server, self._shape, concurrency)
        size = concurrency or GROUP
        return [list(requests[i : i + size]) for i in range(0, len(requests), size)]

    def count_tokens(self, request: Request) -> int:
        """An estimate: the tokenizer is the server's."""
        return _wire.estimated_input(request)

    def most_billed(self, request: Request) -> Usage:
        """About what a request is billed for at most: its answer as long as it may be, and where choices are
        scored by prompts, one for each and one more."""
        asked = Usage(self.count_tokens(request), self._shape.room(request), estimated=True)
        if request.choices is None or self._choices != "prompt":
            return asked
        prompts = (1 + len(request.choices)) * asked.input_tokens
        return Usage(prompts + sum(map(_wire.estimated_tokens, request.choices)), 1 + len(request.choices),
                     estimated=True)  # fmt: skip

    def adapt(self, adapter: Path | None) -> OpenAIEngine:
        if adapter is None:
            return self
        if not HostedModel.is_in(adapter):
            raise NotApplicable(f"adapters cannot be applied to '{self.model}' on {self._server.host}")
        tuned = HostedModel.read(adapter)
        if tuned.base_url != self._server.base_url:
            raise UserError(
                f"'{tuned.model}' is held by {tuned.base_url}, not by {self._server.base_url}",
                field="base_url",
            )
        made = copy.copy(self)
        made._card, made._price_as, made.model = None, tuned.price_as, tuned.model
        if tuned.deployment is not None:
            plan = Plan.of(tuned.deployment)
            self._check_host(plan.host, "the deployment of a tuned model")
            made.deployment = Deployment(plan, self._hosting, self._prices(), self._guard)
            made.model = plan.name
        made._shape = replace(self._shape, model=made.model)
        return made

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer the requests, at most `concurrency` at once.

        When one fails for good or the spending limit is reached, no further one is sent; those under way
        finish and are handed out before the error is raised.

        Raises:
            SpendingLimitReached: the next request could cross the limit.
            UserError: the server refuses what it was asked, in words that say what would be right.
            ProviderError: it does not answer, after all retries.
        """
        if not self._choices and any(r.choices for r in requests):
            raise NotApplicable(f"'{self.model}' on {self._server.host} cannot score choices")
        price = self._price()
        self._server.check_key()
        if self.deployment is not None:
            if self._batch is not None:
                raise NotApplicable("a batch may take a day, and a deployment is billed all the while")
            if not self.owner:
                raise RuntimeError(
                    "a deployment is asked within `deployments.serving`, which deletes it again"
                )
            self.deployment.ensure(self.owner)
        if self._batch is not None:
            return self._in_a_batch(requests, price, *self._batch)
        return in_parallel(lambda r, stop: self._completion(r, price, stop), requests, self.concurrency)

    def close_orphans(self) -> list[str]:
        """Cancel and settle the batches at this server that an earlier process of the run sent and this one
        did not ask for; a sentence on each. To be called when every cell of the run has had its turn."""
        if self._batch is None or self._batches_file is None:
            return []
        return close_orphans(self._batches(*self._batch), self._guard, self._prices().token_price)

    def _in_a_batch(
        self, requests: Sequence[Request], price: TokenPrice | None, wait: float, minutes: float
    ) -> Iterator[Completion]:
        """The answers of a batch; what it learned about the server holds for what is asked next."""
        batches = self._batches(wait, minutes)
        try:
            yield from in_batches(batches, requests, self._guard, price, self._token_name)
        finally:
            self._shape = batches.shape

    def _batches(self, wait: float, minutes: float) -> _batch.Batches:
        return _batch.Batches(
            self._client,
            self._server,
            self._shape,
            file=self._batches_file,
            wait=wait,
            minutes=minutes,
            sleep=self.sleep or time.sleep,
        )

    def _completion(self, request: Request, price: TokenPrice | None, stop: threading.Event) -> Completion:
        """The answer to one request, or its choices scored."""
        if request.choices is None:
            return self._answer(request, price, stop)[0]
        if self._choices == "first-token":
            one = replace(request, max_tokens=1)  # more would be written, and billed, for nobody
            done, data = self._answer(one, price, stop, _hosted_choices.first_token_body())
            scores = _hosted_choices.first_token_logprobs(data, request.choices)
            return replace(done, text="", finish_reason="choices", choice_logprobs=scores)
        total, asked = self._answer(request, price, stop, _hosted_choices.prompt_body(request.messages, None))
        prompt, logprobs = _hosted_choices.prompt_tokens(asked), []
        for choice in request.choices:
            body = _hosted_choices.prompt_body(request.messages, choice)
            done, data = self._answer(request, price, stop, body, choice)
            total = replace(
                total, usage=total.usage + done.usage, seconds=(total.seconds or 0.0) + (done.seconds or 0.0)
            )
            logprobs.append(_hosted_choices.answer_logprob(prompt, _hosted_choices.prompt_tokens(data)))
        return replace(total, text="", finish_reason="choices", choice_logprobs=tuple(logprobs))

    def _answer(
        self,
        request: Request,
        price: TokenPrice | None,
        stop: threading.Event,
        fields: Mapping[str, Any] | None = None,
        answered: str = "",
    ) -> tuple[Completion, Any]:
        """One request with its retries, `fields` laid over its body: (completion, body of the reply)."""
        worst = price.cost(_wire.worst_case(request, self._shape, answered)) if price else 0.0
        retrying = tenacity.Retrying(
            sleep=self.sleep or tenacity.sleep_using_event(stop),
            stop=tenacity.stop_after_attempt(self._retries + 1) | tenacity.stop_when_event_set(stop),
            wait=_wait,
            retry=tenacity.retry_if_exception_type(_wire.TryAgain),
            reraise=True,
        )
        try:
            return retrying(self._attempt, request, price, worst, stop, fields or {})
        except _wire.TryAgain as error:
            reason = str(error)
        tries = "stopped" if stop.is_set() else f"{self._retries + 1} attempts"
        raise ProviderError(
            f"{self._server.host} gave no answer to request '{request.id}' ({tries}); at last: {reason}"
        )

    def _attempt(
        self,
        request: Request,
        price: TokenPrice | None,
        worst: float,
        stop: threading.Event,
        fields: Mapping[str, Any],
    ) -> tuple[Completion, Any]:
        """Send a request once. Whatever may have been billed is paid from the purse."""
        self._pace.wait(stop)
        if stop.is_set():
            raise _wire.NotSent("stopped before it was sent")
        if self.deployment is not None:
            self.deployment.keep(stop.is_set)
        reservation = self._guard.reserve(worst, stop.is_set)
        spent = worst  # unless it is known to be less
        shape = self._shape  # of this attempt: another one may learn the newer name meanwhile
        try:
            started = time.perf_counter()
            reply = self._post(request, {**shape.body(request), **fields})
            seconds = time.perf_counter() - started
            appears = self.deployment is not None
            completion = _wire.read(reply, request, seconds, self._server, appears=appears)
            spent = price.cost(completion.usage) if price else 0.0
            return completion, reply.json() if fields else None
        except _wire.OtherRoom as error:
            spent = 0.0
            if shape.room_as == _wire.NEWER:
                raise _wire.Refused(f"{self._server.host} refuses request '{request.id}' ({error})") from None
            self._shape = replace(shape, room_as=_wire.NEWER)
            raise
        except _wire.NotBilled:
            spent = 0.0
            raise
        finally:
            self._guard.settle(reservation, spent)

    def _post(self, request: Request, payload: Mapping[str, Any]) -> httpx.Response:
        try:
            return self._client.post(self._server.url(request), json=payload, auth=self._server)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            failure: _wire.TryAgain = _wire.NotSent(f"cannot connect ({type(error).__name__})")
        except httpx.TimeoutException:
            failure = _wire.TryAgain("no answer in time")
        except httpx.RequestError as error:
            failure = _wire.TryAgain(f"the connection broke ({type(error).__name__})")
        raise failure  # out here, so that no traceback drags the request and its key along

    @property
    def _token_name(self) -> str:
        """The price book's name for the tokens as they are asked for."""
        return batch_name(self._price_as) if self._batch is not None else self._price_as

    def _prices(self) -> PriceBook:
        if self._book is None:
            self._book = PriceBook.load()
        return self._book

    def _price(self) -> TokenPrice | None:
        price = self._prices().token_price(self._token_name)
        if price is None and not self._allow_unpriced:
            raise UserError(
                f"nobody knows what '{self.model}' on {self._server.host} costs",
                field="model",
                hint=f"put '{self._token_name}' under `tokens` of a price file, set price_as to a model of "
                "the same price, or set allow_unpriced: true and get unknown costs",
            )
        return price

    def __repr__(self) -> str:
        return f"OpenAIEngine({self.model!r}, {self._server.base_url!r})"


class Pace:
    """At most so many requests a minute, evenly; None: as many as there are."""

    def __init__(self, per_minute: float | None) -> None:
        if per_minute is not None and per_minute <= 0:
            raise UserError(f"should be above 0, not {per_minute:g}", field="requests_per_minute")
        self._gap = 60.0 / per_minute if per_minute is not None else 0.0
        self._next, self._lock = 0.0, threading.Lock()

    def wait(self, stop: threading.Event) -> None:
        """Until it is this request's turn, or `stop` is set."""
        if not self._gap:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._gap
        stop.wait(turn - now)


ProviderError = _wire.ProviderError


def _wait(state: tenacity.RetryCallState) -> float:
    """Exponential backoff with jitter, but at least what the server asked for."""
    widest = min(_WIDEST_WAIT, _FIRST_WAIT * 2.0 ** (state.attempt_number - 1))
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, _wire.TryAgain) else None
    if asked is not None and asked > LONGEST_WAIT:
        raise ProviderError(f"the server asks for a pause of {asked:.0f} s; go on later with --resume")
    return max(asked or 0.0, tenacity.wait_random(widest / 2, widest)(state))


def _at_least(least: int, value: int, name: str) -> int:
    if value < least:
        raise UserError(f"should be at least {least}, not {value}", field=name)
    return value
