"""The process that renders: its bounds, its end, and what becomes of the others."""

import errno
import gc
import os
import signal
import threading

import pytest
from support.node_process import is_running

from mlxnode.server.rendering.helper import Helper
from mlxnode.server.rendering.limits import Limits, RenderError, RenderLimit, budgeted
from mlxnode.server.rendering.remote import Renderers

LIMITS = Limits(cpu_seconds=0.5, memory_bytes=200 << 20, characters=1 << 20)
# What each template exceeds. None of them ends by itself, or in the memory of a machine.
LOOPS = {
    "nested loops": "{% for a in range(9**5) %}{% for b in range(9**5) %}{% endfor %}"
    "{% endfor %}",
    "a filtered loop": (
        "{% for a in range(99999) %}{% for b in range(99999) if b > 99999 %}{% endfor %}"
        "{% endfor %}"
    ),
    "filters alone": (
        "{% for a in range(9**5) %}{{ range(9**5) | map('string') | select('eq', 'x') | list }}"
        "{% endfor %}"
    ),
    "macros that call macros": (
        "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
        "{{ f(40) }}"
    ),
    "a recursive loop": (
        "{% for x in [[[[1] * 9] * 9] * 9] * 999 recursive %}"
        "{% if x is iterable %}{{ loop(x * 9) }}{% endif %}{% endfor %}"
    ),
    "a power": "{{ (10 ** (10 ** 8)) % 7 }}",
    "growing numbers": (
        "{% set n = namespace(x=3) %}{% for i in range(60) %}{% set n.x = n.x**2 %}{% endfor %}"
    ),
    "filler text": "{{ lipsum(n=10**7) }}",
    "slices": "{{ 'x' | slice(10 ** 12) | list | length }}",
}
BLOATS = {
    "a product": "{{ 'x' * 10**10 }}",
    "a list": "{{ ([0] * 10**10) | length }}",
    "doubling by ~": (
        "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}"
        "{% endfor %}"
    ),
    "doubling by +": (
        "{% set n = namespace(x=['ab']) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}"
        "{% endfor %}"
    ),
    "doubling by blocks": "{% set x = 'ab' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 60,
    "replacing": "{{ ('x' * 99999) | replace('x', 'y' * 99999) }}",
    "joining": "{{ range(99999) | join('y' * 99999) }}",
    "centering": "{{ 'x' | center(10**10) }}",
    "padding": "{{ 'x'.ljust(10**10) }}",
    "indenting": "{{ ('x\n' * 99999) | indent(99999) }}",
    "a format of %": "{{ '%1000000000d' % 1 }}",
    "a format of braces": "{{ '{:>10000000000}'.format(1) }}",
    "a format filter": "{{ '%1000000000s' | format('x') }}",
    "tabs": "{{ '\t'.expandtabs(10**9) }}",
    "zeros": "{{ '1'.zfill(10**10) }}",
    "bytes": "{{ (1).to_bytes(10**10) }}",
    "spaced JSON": "{{ [[[1]] * 99999] | tojson(indent=99999) }}",
    "batches": "{{ [1] | batch(10**10, 0) | list }}",
    "many texts": (
        "{% set n = namespace(x=[]) %}{% for i in range(99999) %}"
        "{% set n.x = n.x + ['y' * 9999 ~ i] %}{% endfor %}"
    ),
}
WRITES = {
    "a long text": "{{ 'x' * (2**20 + 1) }}",
    "many pieces": "{% for i in range(99999) %}{{ 'xxxxxxxxxxxxxxxxxxxx' }}{% endfor %}",
}
CALLS = {
    "a macro": "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "a loop": "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
}
# Each is refused by the sandbox. The last ones were ways out of jinja2 before 3.1.6.
ESCAPES = {
    "the class of a text": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "by the filter attr": "{{ '' | attr('__class__') | attr('__mro__') }}",
    "by a mapped attr": "{{ [''] | map(attribute='__class__') | list | first | attr('mro') }}",
    "the globals of a function": "{{ raise_exception.__globals__ }}",
    "the globals of a class": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "the code of a macro": "{% macro f() %}{% endmacro %}{{ f.__call__.__func__.__globals__ }}",
    "a generator's frame": "{{ (range(1) | map('string')).gi_frame.f_globals }}",
    "a list that changes": "{{ messages.append(1) }}",
    "a dict that changes": "{{ {}.update(a=1) }}",
    "a field of a namespace": "{% set n = namespace(__class__=1) %}",
    "format (CVE-2016-10745)": "{{ '{0.__class__.__mro__}'.format('') }}",
    "format_map (CVE-2019-10906)": "{{ '{a.__class__.__mro__}'.format_map({'a': ''}) }}",
    "a stored format (CVE-2024-56326)": (
        "{% set f = ['{0.__class__.__mro__}'.format] %}{{ f[0]('') }}"
    ),
    "format by attr (CVE-2025-27516)": ("{{ ('{0.__class__.__mro__}' | attr('format'))('') }}"),
    "a name in an error (CVE-2024-56201)": "{% include '{' ~ '}' ~ \"'\" %}",
}


@pytest.fixture(scope="module")
def renderers() -> Renderers:
    return Renderers(LIMITS)


@pytest.mark.parametrize("name", LOOPS)
def test_a_template_that_loops_is_ended(renderers, name):
    with pytest.raises(RenderLimit, match=r"takes more than 0\.5 s|needs more than 200 MB"):
        renderers.render(LOOPS[name], {})
    assert renderers.render("{{ a }}", {"a": "well"}) == "well"


@pytest.mark.parametrize("name", BLOATS)
def test_a_template_that_bloats_is_ended(renderers, name):
    bound = r"needs more (than 200 MB|memory)|takes more than 0\.5 s|writes more than"
    with pytest.raises((RenderLimit, RenderError), match=f"{bound}|memory|too large|overflow"):
        renderers.render(BLOATS[name], {})
    assert renderers.render("{{ a }}", {"a": "well"}) == "well"


@pytest.mark.parametrize("name", WRITES)
def test_a_template_that_writes_too_much_is_ended(renderers, name):
    with pytest.raises(RenderLimit, match="writes more than 1,048,576 characters"):
        renderers.render(WRITES[name], {})


@pytest.mark.parametrize("name", CALLS)
def test_a_template_that_calls_itself_is_ended(renderers, name):
    with pytest.raises(RenderLimit, match="calls itself too often"):
        renderers.render(CALLS[name], {})


@pytest.mark.parametrize("name", ESCAPES)
def test_a_template_cannot_leave_the_sandbox(renderers, name):
    with pytest.raises(RenderError):
        text = renderers.render(ESCAPES[name], {"messages": []})
        # Jinja2 writes "" for some of what it refuses to look up.
        raise RenderError("nothing") if text in ("", "[]") else AssertionError(text)


def test_the_text_at_the_limit_is_no_error(renderers):
    assert len(renderers.render("{{ 'x' * n }}", {"n": 1 << 20})) == 1 << 20


@pytest.mark.parametrize("source", ["{% if %}", "{{ x.y.z }}", "{{ raise_exception('no') }}"])
def test_an_error_of_the_template_is_its_own(renderers, source):
    with pytest.raises(RenderError):
        renderers.render(source, {})


def test_a_context_arrives_as_it_is(renderers):
    values = [None, True, 2**100, -0.0, 1e300, "\ud800 \U0001f44d", {"a": [1, {}]}, []]
    for value in values:
        assert renderers.render("{{ a }}", {"a": value}) == str(value)


def test_renderings_of_a_budget_share_it():
    helper = Helper(LIMITS)
    with helper.lock, budgeted(0.2), pytest.raises(RenderLimit):
        while True:
            helper.render("{% for i in range(20000) %}{% endfor %}{{ a }}", {"a": 1})
    assert helper.render("{{ a }}", {"a": 1}) == "1"
    helper.close()


def pid_of(helper: Helper) -> int:
    return helper._running._process.pid


def test_a_helper_that_was_killed_is_replaced():
    helper = Helper(LIMITS)
    assert helper.render("{{ a }}", {"a": 1}) == "1"
    first = pid_of(helper)
    os.kill(first, signal.SIGKILL)
    assert helper.render("{{ a }}", {"a": 2}) == "2"
    assert pid_of(helper) != first
    helper.close()


@pytest.mark.long
@pytest.mark.slow
def test_a_helper_that_is_stopped_is_replaced():
    helper = Helper(Limits(seconds=15))
    helper.render("", {})
    first = pid_of(helper)
    os.kill(first, signal.SIGSTOP)
    assert helper.render("{{ a }}", {"a": 2}) == "2"
    assert pid_of(helper) != first and not is_running(first)
    helper.close()


def test_a_crash_is_the_work_of_the_template():
    helper = Helper(LIMITS)
    helper.render("", {})
    crash = threading.Timer(0.2, os.kill, (pid_of(helper), signal.SIGSEGV))
    crash.start()
    with pytest.raises(RenderLimit, match="SIGSEGV"):
        helper.render(LOOPS["nested loops"], {})
    crash.join()
    assert helper.render("{{ a }}", {"a": 1}) == "1"
    helper.close()


def test_a_helper_ends_with_its_owner():
    helper = Helper(LIMITS)
    helper.render("", {})
    pid = pid_of(helper)
    del helper
    gc.collect()
    assert not is_running(pid)


def test_a_helper_that_cannot_be_started_is_no_fault_of_the_template(monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("subprocess.Popen", fail)
    with pytest.raises(OSError, match="open files"):
        Helper(LIMITS).render("", {})


def test_a_template_beyond_a_bound_gets_a_process_of_its_own(renderers):
    """The others do not wait for it: its next rendering is elsewhere."""
    renderers = Renderers(Limits(cpu_seconds=0.3))
    loop = LOOPS["a filtered loop"]
    with pytest.raises(RenderLimit):
        renderers.render(loop, {})
    own = renderers._helper_of(loop)
    assert own is not renderers._shared
    with own.lock:  # as while it renders
        assert renderers.render("{{ a }}", {"a": 1}) == "1"
