{{ config(enabled=var('captured')) }}

with source as (

    select * from {{ source('captured', 'payments') }}

),

renamed as (

    select

        ---------- ids
        payment_id,
        order_id,

        ---------- texts
        kind as payment_kind,

        ---------- numerics
        amount_eur

    from source

)

select * from renamed
