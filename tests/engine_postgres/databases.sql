alter database shop owner to app_owner;
alter database shop set work_mem = '7MB';
alter database shop set search_path = sales, public;
alter role app in database shop set lock_timeout = '9s';
alter database shop connection limit 50;
comment on database shop is 'the shop''s own';
revoke connect on database shop from public;
grant connect, temporary on database shop to app;
grant connect on database shop to reporting with grant option;
