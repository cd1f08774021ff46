with source as (

    select * from {{ source(var('channel'), 'orders') }}

),

renamed as (

    select

        ---------- ids
        {{ typed('order_id', 'bigint') }} as order_id,
        {{ typed('customer_id', 'bigint') }} as customer_id,
        {{ typed('store_id', 'integer') }} as store_id,

        ---------- texts
        channel,
        status as order_status,
        delivery_note,

        ---------- numerics
        {{ typed('items', 'integer') }} as line_count,
        {{ typed('total_eur', 'numeric') }} as total_eur,

        ---------- timestamps
        {{ typed('ordered_at', 'timestamptz') }} as ordered_at,

        ---------- days
        {{ paris_day(typed('ordered_at', 'timestamptz')) }} as ordered_on

    from source

)

select * from renamed
