"""`python -m client approve`: inspection and approval of an app bundle."""

from __future__ import annotations

import getpass
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from common.config.default_file import default_file_option
from common.console import narrow_table, output_console, print_line
from common.errors import PolicyError, UsageError
from common.flower.bundle_signature import BundleSignature, read_signature, signature_path

if TYPE_CHECKING:
    from client.policy.app_bundle import BundleContents
    from client.policy.approval_editor import Grant
    from client.policy.approvals import ApprovedBundle
    from client.policy.policy import Policy

_BundlePath = Annotated[
    Path | None,
    typer.Argument(metavar="BUNDLE", help="The .fab file of `flwr build`.", show_default=False),
]
_PolicyPath = Annotated[
    Path, default_file_option("policy.toml", "The site's policy.toml", "--policy")
]
_By = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME", help="Name of the approver. [default: this user]"),
]
_Study = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="The study that it may run for.", show_default=False),
]
_Until = Annotated[
    str | None,
    typer.Option(
        metavar="DATE",
        help="The last day (UTC), or a time with its offset, in ISO 8601.",
        show_default=False,
    ),
]
_Signature = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The author's signature. [default: BUNDLE.sig, if it exists]"
    ),
]
_Second = Annotated[bool, typer.Option("--second", help="Approve it as the second person.")]
_Renew = Annotated[bool, typer.Option("--renew", help="Renew the approval, with another last day.")]
_List = Annotated[bool, typer.Option("--list", help="List the approved bundles.")]
_Files = Annotated[bool, typer.Option("--files", help="List every file and every change.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Approve without a prompt.")]


def approve(
    policy: _PolicyPath,
    bundle: _BundlePath = None,
    by: _By = None,
    study: _Study = None,
    until: _Until = None,
    signature: _Signature = None,
    second: _Second = False,
    renew: _Renew = False,
    list_: _List = False,
    files: _Files = False,
    yes: _Yes = False,
) -> None:
    """Summarise an app bundle, and write its approval to the policy.

    The summary says what the app is, what it may do, and what differs from the bundle that was
    approved last. Without a terminal, --yes is required.
    """
    from client.policy.app_bundle import read_bundle
    from client.policy.approval_editor import Grant, approve_bundle, approve_second, renew_bundle
    from client.policy.policy import load_policy

    current, now = load_policy(policy), datetime.now().astimezone()
    if list_:
        _show_all(policy, current, now)
        return
    if bundle is None:
        raise UsageError("give the .fab file of the bundle, or --list")
    if second and (renew or study or until or signature):
        raise UsageError("--second confirms the existing approval; give only --by with it")
    contents = read_bundle(bundle)
    _show_bundle(policy, current, contents, files)
    known, person = current.bundles.get(contents.sha256), by or getpass.getuser()
    if known is not None:
        _show_approval(known)
    if known is not None and not second and not renew:
        _report_permission(bundle, policy, current.refusal(contents.sha256, now))
        return
    if second:
        _confirm(policy, yes)
        approve_second(policy, contents, person, now)
    else:
        study = study or (known.study if known is not None and renew else None)
        if study is None or until is None:
            raise UsageError("an approval needs --study TEXT and --until YYYY-MM-DD")
        grant = Grant(person, study, until, _signature(bundle, signature))
        _show_grant(current, contents, grant, now)
        _confirm(policy, yes)
        (renew_bundle if renew else approve_bundle)(policy, contents, grant, now)
    _report_written(policy, bundle, contents)


def _report_written(policy: Path, bundle: Path, contents: BundleContents) -> None:
    """Record the files of the approved bundle; print that it may run, or what it still lacks."""
    from client.policy.approved_files import record_files
    from client.policy.policy import load_policy

    print_line(f"approved in {policy}; a running node applies it from its next message on")
    written = load_policy(policy)
    if problem := record_files(policy, contents, written.bundles):
        print_line(f"the next approval will not show what changes: {problem}")
    if written.approval.second_approver and len(written.bundles[contents.sha256].approvals) < 2:
        print_line(f"it runs once another person has approved it: {_second(bundle, policy)}")


def _report_permission(bundle: Path, policy: Path, reason: str | None) -> None:
    """Print that the bundle may run, or raise PolicyError with the reason."""
    if reason is None:
        print_line("it may run; nothing is written")
        return
    raise PolicyError(
        f"it may not run: {reason}; renew the approval with --renew, or approve it as the second "
        f"person with: {_second(bundle, policy)}"
    )


def _signature(bundle: Path, given: Path | None) -> BundleSignature | None:
    beside = signature_path(bundle)
    if given is None and not beside.exists():
        return None
    return read_signature(given or beside)


def _confirm(policy: Path, yes: bool) -> None:
    """Ask for the approval until it is y or n; a blank line, as in a pasted block, is no answer."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            "the approval is asked for at a terminal, and standard input is none; read the summary "
            "and give --yes"
        )
    if not typer.confirm(f"Approve it in {policy}?", default=None):
        print_line("not approved; nothing is written")
        raise typer.Exit(1)


def _show_bundle(path: Path, policy: Policy, contents: BundleContents, files: bool) -> None:
    """Show the summary of a bundle, and every file of it if they are asked for."""
    from client.policy.approval_summary import summary_lines

    if files:
        table = narrow_table(escape(contents.name), ("file", "SHA-256"), ("bytes",))
        for file in contents.files:
            table.add_row(escape(file.path), file.sha256[:16], f"{file.size:,}")
        output_console().print(table)
    for line in summary_lines(path, policy, contents, every=files):
        print_line(line)


def _show_approval(known: ApprovedBundle) -> None:
    """Show an entry of the policy."""
    for approval in known.approvals:
        print_line(f"approved by {approval.by} at {approval.at.isoformat()}")
    print_line(f"study: {known.study}")
    print_line(f"until: {known.last}")
    if known.signed is not None:
        print_line(f"signed by the key {known.signed.author}")


def _show_grant(policy: Policy, contents: BundleContents, grant: Grant, now: datetime) -> None:
    """Show the approval to be written; raise before the prompt what writing would raise."""
    from client.policy.approval_editor import check_signature, check_until

    last = check_until(policy, grant.until, now)
    print_line(f"by {grant.by}, for the study: {grant.study}")
    print_line(f"until: {last}")
    signature = grant.signature
    if signature is not None:
        check_signature(policy, contents, signature)
        author = f"{signature.author.name or 'no name'}, {signature.author.fingerprint}"
        unknown = "" if policy.approval.author_keys else "; the policy lists no author keys"
        print_line(f"signed by {author}{unknown}")
    elif not policy.approval.author_keys:
        print_line("not signed by its author; the policy does not require it")


def _show_all(path: Path, policy: Policy, now: datetime) -> None:
    columns = ("bundle", "SHA-256", "study", "approved by", "until", "may run")
    table = narrow_table(escape(f"Approved in {path}"), columns, ())
    for sha256, bundle in policy.bundles.items():
        people = " and ".join(approval.by for approval in bundle.approvals)
        state = policy.refusal(sha256, now) or "yes"
        cells = (bundle.name, sha256[:12], bundle.study, people, bundle.last, state)
        table.add_row(*map(escape, cells))
    output_console().print(table)
    rules = policy.approval
    print_line(f"second approver: {'required' if rules.second_approver else 'not required'}")
    keys = ", ".join(key.name or key.fingerprint for key in rules.author_keys)
    print_line(f"author's signature: {f'required, by {keys}' if keys else 'not required'}")


def _second(bundle: Path, policy: Path) -> str:
    return f"python -m client approve {bundle} --policy {policy} --second --by NAME"
