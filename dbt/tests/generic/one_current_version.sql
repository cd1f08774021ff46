{#- Of each thing there is one current version, and no two overlap. -#}
{% test one_current_version(model, column_name) %}

with versions as (

    select
        {{ column_name }},
        is_current,
        valid_from,
        valid_to,
        lead(valid_from) over (
            partition by {{ column_name }} order by valid_from
        ) as next_from
    from {{ model }}

)

select {{ column_name }}
from versions
group by {{ column_name }}
having
    count(*) filter (where is_current) <> 1
    or bool_or(valid_from >= valid_to)
    or bool_or(valid_to > next_from)

{% endtest %}
