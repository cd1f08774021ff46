{#- Bytes that are not of the announced encoding leave their mark: U+FFFD where
    UTF-8 was announced, a capital A with tilde where UTF-8 is read as 1252. -#}
{% test is_readable_text(model, column_name) %}

select *
from {{ model }}
where {{ column_name }} ~ '\uFFFD|Ã'

{% endtest %}
