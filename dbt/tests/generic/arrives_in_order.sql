{#- No row comes after one that happened later; doubles are another test's. -#}
{% test arrives_in_order(model, column_name, key, partition_by='1') %}

{%- set moment = typed(column_name, 'timestamptz') %}

with first_arrivals as (

    select distinct on ({{ key }}) *
    from {{ model }}
    where _rescued is null
    order by {{ key }}, _line

),

with_the_latest_before as (

    select
        *,
        max({{ moment }}) over (
            partition by {{ partition_by }}
            order by _line
            rows between unbounded preceding and 1 preceding
        ) as latest_before
    from first_arrivals

)

select *
from with_the_latest_before
where {{ moment }} < latest_before

{% endtest %}
