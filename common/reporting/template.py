"""Jinja2 templates of the report page.

They are Python strings, not separate files, because the app bundle that Flower ships carries only
Python and settings, and the report is rendered from it.
"""

MACROS = """\
{% macro table(data) %}
<div class="scroll" tabindex="0" role="region" aria-label="{{ data.caption }}">
{% set columns = data.header|length %}
{% if data.text %}
<table class="text{{ " many" if columns > 2 }}">
{% else %}
<table{{ ' class="wide"'|safe if columns > 5 }}>
{% endif %}
<caption>{{ data.caption }}<span class="hint" aria-hidden="true"> Scroll for more →</span></caption>
<thead><tr>
{% for name in data.header %}<th scope="col">{{ name }}</th>{% endfor %}
</tr></thead>
<tbody>
{% for row in data.rows %}
<tr{% if row.mean %} class="mean"{% elif row.indent %} class="indent"{% endif %}>
<th scope="row">{{ row.label }}
{% if row.unit %}<span class="unit">{{ row.unit }}</span>{% endif %}</th>
{% for cell in row.cells %}<td>{{ cell }}</td>{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endmacro %}

{% macro figure(item) %}
<figure>
<figcaption><b>{{ item.title }}</b>{{ item.caption }}</figcaption>
{{ item.svg }}
</figure>
{% endmacro %}

{% macro flow(stages) %}
<ol class="flow">
{% for stage in stages %}
<li>
{% if stage.out %}<p class="out">{{ stage.out }}</p>{% endif %}
<p class="stage"><b>{{ stage.left }}</b> {{ stage.of }}<br>{{ stage.rule }}</p>
</li>
{% endfor %}
</ol>
{% endmacro %}

{% macro legend(entries) %}
<ul class="legend">
{% for entry in entries %}
<li><svg viewBox="0 0 28 12" aria-hidden="true">{{ entry.mark }}</svg>{{ entry.label }}</li>
{% endfor %}
</ul>
{% endmacro %}
"""

PAGE = """\
{% from "macros" import table, figure, flow, legend %}
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="fedvitals">
<link rel="icon" href="data:,">
<title>{{ title }}</title>
<style>
{% include "style" %}
</style>
</head>
<body>
<header>
<p class="kicker">fedvitals · {{ kicker }}</p>
<h1>{{ title }}</h1>
<p class="lead">{{ headline }}</p>
{% if tiles %}
<dl class="tiles">
{% for tile in tiles %}
<div><dt>{{ tile.label }}</dt><dd>{{ tile.value }}</dd><dd>{{ tile.note }}</dd></div>
{% endfor %}
</dl>
{% endif %}
<nav aria-label="Sections"><ul>
{% for section in sections %}
<li><a href="#{{ section.id }}">{{ section.title }}</a></li>
{% endfor %}
</ul></nav>
</header>
<main>
{% for section in sections %}
<section id="{{ section.id }}" aria-labelledby="{{ section.id }}-title">
<h2 id="{{ section.id }}-title">{{ section.title }}</h2>
{% for part in section.parts %}
{% if part.heading %}<h3>{{ part.heading }}</h3>
{% endif %}
{% for paragraph in part.paragraphs %}
<p>{{ paragraph }}</p>
{% endfor %}
{% if part["items"] %}
<ul>
{% for item in part["items"] %}<li>{{ item }}</li>
{% endfor %}
</ul>
{% endif %}
{% for paragraph in part.warnings %}
<p class="warning">{{ paragraph }}</p>
{% endfor %}
{% if part.flow %}{{ flow(part.flow) }}{% endif %}
{% if part.legend %}{{ legend(part.legend) }}{% endif %}
{% if part.figures %}
<div class="{{ "small " if part.small }}figures">
{% for item in part.figures %}{{ figure(item) }}{% endfor %}
</div>
{% endif %}
{% if part.bars %}
<dl class="bars">
{% for bar in part.bars %}
<dt>{{ bar.label }}</dt>
<dd><div class="bar{{ " ours" if bar.ours }}" style="width: {{ bar.width }}%"></div></dd>
{% endfor %}
</dl>
{% endif %}
{% for data in part.tables %}{{ table(data) }}{% endfor %}
{% if part.folded %}
<details>
<summary>{{ part.folded_title }}</summary>
{% for data in part.folded %}{{ table(data) }}{% endfor %}
</details>
{% endif %}
{% if part.code %}<pre tabindex="0"><code>{{ part.code }}</code></pre>{% endif %}
{% for paragraph in part.notes %}
<p class="note">{{ paragraph }}</p>
{% endfor %}
{% endfor %}
</section>
{% endfor %}
</main>
<footer>
<p class="note">Research software. Not a medical device and not for clinical use.</p>
</footer>
</body>
</html>
"""
