{#- The condition of an incremental run: rows whose moment is younger than the
    newest one in the table, less the days that late ones may take. -#}
{% macro since_last_run(moment) -%}
    {{ moment }} > (
        select
            coalesce(max({{ moment }}), '-infinity')
            - interval '{{ var("lookback_days") }} days'
        from {{ this }}
    )
{%- endmacro %}
