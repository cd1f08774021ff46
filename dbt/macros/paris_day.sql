{#- The business day of a moment: a day is a day in Paris, also at 00:30. -#}
{% macro paris_day(moment) -%}
    ({{ moment }} at time zone 'Europe/Paris')::date
{%- endmacro %}
