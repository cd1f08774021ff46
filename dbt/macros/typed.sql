{#- A column as the type that it should have. What the lake delivered is
    typed already. What landed is text: a value that is not written as its
    type is here (as `n.c.`, `1.5e3`, `10/05/2026`, a moment without its
    offset) becomes null, and a test says so. A cast alone would stop the
    model, or ask the server's DateStyle and TimeZone what the value might
    mean. -#}
{% macro typed(column, type) -%}

    {%- set day = '[0-9]{4}-[0-9]{2}-[0-9]{2}' -%}
    {%- set time = '[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,6})?' -%}
    {%- set offset = '(Z|[+-][0-9]{2}(:[0-9]{2})?)' -%}
    {%- set grammar = {
        'integer': '-?[0-9]+',
        'bigint': '-?[0-9]+',
        'numeric': '-?[0-9]+([.][0-9]+)?',
        'float8': '-?[0-9]+([.][0-9]+)?',
        'boolean': '(true|false)',
        'date': day,
        'timestamptz': day ~ '[T ]' ~ time ~ offset,
    } -%}
    {%- if var('channel') != 'landing' -%}
        {{ column }}::{{ type }}
    {%- else -%}
        case
            when {{ column }}::text ~ '^{{ grammar[type] }}$'
                and pg_input_is_valid({{ column }}::text, '{{ type }}')
                then {{ column }}::{{ type }}
        end
    {%- endif -%}

{%- endmacro %}
