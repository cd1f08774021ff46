with source as (

    select * from {{ source(var('channel'), 'payments') }}

),

renamed as (

    select

        ---------- ids
        {{ typed('payment_id', 'bigint') }} as payment_id,
        {{ typed('order_id', 'bigint') }} as order_id,

        ---------- texts
        kind as payment_kind,
        method as payment_method,

        ---------- numerics
        {{ typed('amount_eur', 'numeric') }} as amount_eur,

        ---------- timestamps
        {{ typed('paid_at', 'timestamptz') }} as paid_at

    from source

)

select * from renamed
