"""`python -m client approve`: look into an app bundle, and allow it to run at the site."""

from __future__ import annotations

import getpass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from common.console import narrow_table, output_console
from common.errors import PolicyError, UsageError
from common.flower.bundle_signature import BundleSignature, read_signature, signature_path

if TYPE_CHECKING:
    from client.policy.app_bundle import BundleContents
    from client.policy.approval_editor import Grant
    from client.policy.approvals import ApprovedBundle
    from client.policy.policy import Policy

BundlePath = Annotated[
    Path | None,
    typer.Argument(metavar="BUNDLE", help="The .fab file of `flwr build`.", show_default=False),
]
PolicyPath = Annotated[
    Path, typer.Option("--policy", metavar="FILE", help="The site's policy.toml.")
]
By = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME", help="Who approves it. [default: this user]"),
]
Study = Annotated[
    str | None, typer.Option(metavar="TEXT", help="What it may run for.", show_default=False)
]
Until = Annotated[
    str | None,
    typer.Option(
        metavar="DATE",
        help="Its last day (UTC), or a time with its offset, in ISO 8601.",
        show_default=False,
    ),
]
Signature = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The author's signature. [default: BUNDLE.sig, if it is there]"
    ),
]
Second = Annotated[bool, typer.Option("--second", help="Be the second person who approves it.")]
Renew = Annotated[bool, typer.Option("--renew", help="Approve it anew, until another date.")]
List = Annotated[bool, typer.Option("--list", help="Show what is approved, and until when.")]
Yes = Annotated[bool, typer.Option("--yes", help="Approve without asking.")]


def approve(
    policy: PolicyPath,
    bundle: BundlePath = None,
    by: By = None,
    study: Study = None,
    until: Until = None,
    signature: Signature = None,
    second: Second = False,
    renew: Renew = False,
    list_: List = False,
    yes: Yes = False,
) -> None:
    """Show what an app bundle contains and its digest; on yes, write it to the policy."""
    from client.policy.app_bundle import read_bundle
    from client.policy.approval_editor import Grant, approve_bundle, approve_second, renew_bundle
    from client.policy.policy import load_policy

    current, now = load_policy(policy), datetime.now().astimezone()
    console = output_console()
    if list_:
        _show_all(console, policy, current, now)
        return
    if bundle is None:
        raise UsageError("give the bundle's .fab file, or --list")
    if second and (renew or study or until or signature):
        raise UsageError("--second agrees to the approval as it stands; give only --by with it")
    contents = read_bundle(bundle)
    _show_contents(console, contents)
    known, person = current.bundles.get(contents.sha256), by or getpass.getuser()
    if known is not None:
        _show_approval(console, known)
    if known is not None and not second and not renew:
        _say_whether_it_runs(console, bundle, policy, current.refusal(contents.sha256, now))
        return
    if second:
        _ask(console, policy, yes)
        approve_second(policy, contents, person, now)
    else:
        study = study or (known.study if known is not None and renew else None)
        if study is None or until is None:
            raise UsageError("to approve it give --study TEXT and --until YYYY-MM-DD")
        grant = Grant(person, study, until, _signature(bundle, signature))
        _show_grant(console, current, contents, grant, now)
        _ask(console, policy, yes)
        (renew_bundle if renew else approve_bundle)(policy, contents, grant, now)
    _say(console, f"approved in {policy}; a running node knows from its next message on")
    written = load_policy(policy)
    if written.approval.second_approver and len(written.bundles[contents.sha256].approvals) < 2:
        _say(console, f"it runs once another person has approved it: {_second(bundle, policy)}")


def _say_whether_it_runs(console: Console, bundle: Path, policy: Path, reason: str | None) -> None:
    if reason is None:
        _say(console, "it may run; nothing is written")
        return
    raise PolicyError(
        f"it may not run: {reason}; approve it anew with --renew, or as the second person with: "
        f"{_second(bundle, policy)}"
    )


def _signature(bundle: Path, given: Path | None) -> BundleSignature | None:
    beside = signature_path(bundle)
    if given is None and not beside.exists():
        return None
    return read_signature(given or beside)


def _ask(console: Console, policy: Path, yes: bool) -> None:
    if not yes and not typer.confirm(f"Approve it in {policy}?"):
        _say(console, "not approved; nothing is written")
        raise typer.Exit(1)


def _show_contents(console: Console, contents: BundleContents) -> None:
    table = narrow_table(escape(contents.name), ("file", "SHA-256"), ("bytes",))
    for file in contents.files:
        table.add_row(escape(file.path), file.sha256[:16], f"{file.size:,}")
    console.print(table)
    _say(console, f"runs at the site: {contents.client_app}")
    _say(console, f"SHA-256: {contents.sha256}")
    for remark in contents.remarks:
        _say(console, f"look at: {remark}")


def _show_approval(console: Console, known: ApprovedBundle) -> None:
    """Show an entry of the policy."""
    for approval in known.approvals:
        _say(console, f"approved by {approval.by} at {approval.at.isoformat()}")
    _say(console, f"study: {known.study}")
    _say(console, f"until: {known.last}")
    if known.signed is not None:
        _say(console, f"signed by the key {known.signed.author}")


def _show_grant(
    console: Console, policy: Policy, contents: BundleContents, grant: Grant, now: datetime
) -> None:
    """Show what is about to be written; refuse now what would be refused later."""
    from client.policy.approval_editor import check_signature, check_until

    last = check_until(policy, grant.until, now)
    _say(console, f"by {grant.by}, for the study: {grant.study}")
    _say(console, f"until: {last}")
    signature = grant.signature
    if signature is not None:
        check_signature(policy, contents, signature)
        author = f"{signature.author.name or 'no name'}, {signature.author.fingerprint}"
        asked = "" if policy.approval.author_keys else "; the policy names no author's key"
        _say(console, f"signed by {author}{asked}")
    elif not policy.approval.author_keys:
        _say(console, "not signed by its author; the policy does not ask for it")


def _show_all(console: Console, path: Path, policy: Policy, now: datetime) -> None:
    columns = ("bundle", "SHA-256", "study", "approved by", "until", "may run")
    table = narrow_table(escape(f"Approved in {path}"), columns, ())
    for sha256, bundle in policy.bundles.items():
        people = " and ".join(approval.by for approval in bundle.approvals)
        state = policy.refusal(sha256, now) or "yes"
        cells = (bundle.name, sha256[:12], bundle.study, people, bundle.last, state)
        table.add_row(*map(escape, cells))
    console.print(table)
    rules = policy.approval
    _say(console, f"second approver: {'asked for' if rules.second_approver else 'not asked for'}")
    keys = ", ".join(key.name or key.fingerprint for key in rules.author_keys)
    _say(console, f"author's signature: {f'asked for, of {keys}' if keys else 'not asked for'}")


def _second(bundle: Path, policy: Path) -> str:
    return f"python -m client approve {bundle} --policy {policy} --second --by NAME"


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)
