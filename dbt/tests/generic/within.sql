{#- No value below `least` or above `most`; nulls are another test's. -#}
{% test within(model, column_name, least, most) %}

select *
from {{ model }}
where {{ column_name }} not between {{ least }} and {{ most }}

{% endtest %}
