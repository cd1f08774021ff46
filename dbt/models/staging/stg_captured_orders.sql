{{ config(enabled=var('captured')) }}

with source as (

    select * from {{ source('captured', 'orders') }}

),

renamed as (

    select

        ---------- ids
        order_id,
        customer_id,
        store_id,

        ---------- texts
        channel,
        status as order_status,

        ---------- numerics
        items as line_count,
        total_eur,

        ---------- timestamps
        ordered_at,

        ---------- days
        {{ paris_day('ordered_at') }} as ordered_on

    from source

)

select * from renamed
