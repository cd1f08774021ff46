{#- A column as the type that it should have. The snapshot is typed already.
    What landed is text: a value that is none of the type (`n.c.`) becomes
    null, and a test says so; a cast alone would stop the model instead. -#}
{% macro typed(column, type) -%}

    {%- if var('channel') == 'primeur' -%}
        {{ column }}::{{ type }}
    {%- elif type in ('numeric', 'float8') -%}
        case
            when pg_input_is_valid({{ column }}::text, '{{ type }}')
                then nullif({{ column }}::{{ type }}, 'NaN')
        end
    {%- else -%}
        case
            when pg_input_is_valid({{ column }}::text, '{{ type }}')
                then {{ column }}::{{ type }}
        end
    {%- endif -%}

{%- endmacro %}
