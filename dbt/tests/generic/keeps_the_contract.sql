{#- Each row is what the contract of its channel promises
    (flow360/primeur/contracts). The loader has judged it as it was written on
    the way, and left its reason; here the landed text is judged once more, as
    staging will read it, whoever wrote it. -#}
{% test keeps_the_contract(model, columns) %}

select *
from {{ model }}
where _defect is not null
{%- for name, rule in columns.items() %}
    {%- set value = name if rule.type == 'text' else typed(name, rule.type) %}
    {%- if rule.get('required', true) %}
    or {{ name }} is null
    {%- endif %}
    {%- if rule.type != 'text' %}
    or ({{ name }} is not null and {{ value }} is null)
    {%- endif %}
    {%- if rule.least is defined %}
    or {{ value }} < '{{ rule.least }}'
    or {{ value }} > '{{ rule.most }}'
    {%- endif %}
    {%- if 'values' in rule %}
    or {{ name }} not in ('{{ rule['values'] | join("', '") }}')
    {%- endif %}
    {%- if rule.pattern is defined %}
    or {{ name }} !~ '{{ rule.pattern }}'
    {%- endif %}
{%- endfor %}

{% endtest %}
