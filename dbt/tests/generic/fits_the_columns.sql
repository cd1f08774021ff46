{#- A line that did not fit the columns was landed whole in `_rescued`. -#}
{% test fits_the_columns(model) %}

select *
from {{ model }}
where _rescued is not null

{% endtest %}
