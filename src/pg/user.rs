//! Acting as another role, for as long as a value lives.

use pgrx::pg_sys;

use super::compiled;
use super::cursors;
use super::names;
use super::outside;
use super::settings::{PINNED, PINNED_PATH, Settings};
use super::temporary::hidden::Hidden;
use super::temporary::{acts_as_owner, is_acting};
use super::turn::Turn;

/// While the value lives, the backend acts as another role. Its drop restores the previous role.
///
/// Source: `SwitchToUntrustedUser` in `utils/init/usercontext.c`, which the logical replication
/// worker uses. An error needs no drop: the end of a (sub)transaction puts the user back as well.
pub struct ActingAs {
    user: pg_sys::Oid,
    security_context: i32,
    settings: Option<Settings>,
    acted_as_owner: bool,
    /// The role, if it is the owner of a mapping.
    owner: Option<pg_sys::Oid>,
    _hidden: Option<Hidden>,
    _outside: Option<outside::Hidden>,
    _cursors: Option<cursors::Held>,
    _turn: Turn,
}

impl ActingAs {
    /// Acts as `role`. `restricted` is for running a role's own SQL. It forbids prepared statements,
    /// temporary tables and `SET ROLE`, whose effects could outlive the switch.
    pub fn new(role: pg_sys::Oid, restricted: bool) -> ActingAs {
        ActingAs::in_turn(role, restricted, false, Turn::own())
    }

    /// Acts as the owner of a mapping (by id), in the mapping's turn: see [`ActingAs::untrusted`].
    pub fn owner(role: pg_sys::Oid, mapping: i32) -> ActingAs {
        ActingAs::in_turn(role, is_restricted(role), true, Turn::of(mapping))
    }

    fn in_turn(role: pg_sys::Oid, restricted: bool, owner: bool, turn: Turn) -> ActingAs {
        let mut user = pg_sys::InvalidOid;
        let mut security_context = 0;
        let hidden = (owner || restricted).then(|| Hidden::from(role));
        // SAFETY: both calls read or write two backend variables.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut user, &mut security_context);
            let mut flags = security_context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32;
            if restricted {
                flags |= pg_sys::SECURITY_RESTRICTED_OPERATION as i32;
            }
            pg_sys::SetUserIdAndSecContext(role, flags);
            if owner {
                compiled::begin_turn(role);
            }
            // Settings that a role's own SQL changes are restored when its turn ends. They do not apply while
            // the extension's owner acts in between: with another search_path, the owner's SQL could find a
            // foreign operator and run it with the owner's rights.
            let guarded = flags & pg_sys::SECURITY_RESTRICTED_OPERATION as i32 != 0;
            // Whoever chose the present search_path may have made types whose checks would run as the other role.
            let settings = match (guarded, role != user) {
                (true, _) => Some(Settings::new(PINNED)),
                (false, true) => Some(Settings::new(PINNED_PATH)),
                (false, false) => None,
            };
            ActingAs {
                user,
                security_context,
                settings,
                acted_as_owner: acts_as_owner(owner),
                owner: owner.then_some(role),
                _hidden: hidden,
                _outside: (owner || restricted).then(outside::Hidden::begin),
                _cursors: restricted.then(cursors::Held::begin),
                _turn: turn,
            }
        }
    }

    /// Acts as the role that called the outermost function, with the rights of this role only.
    pub fn caller() -> ActingAs {
        // SAFETY: reads a backend variable.
        ActingAs::new(unsafe { pg_sys::GetOuterUserId() }, false)
    }
}

impl ActingAs {
    /// Acts as the owner of a mapping. The server's `SwitchToUntrustedUser` also leaves some roles
    /// unrestricted. Under a restriction, deferred triggers cannot fire, so the current role and superusers
    /// are not restricted.
    pub fn untrusted(role: pg_sys::Oid) -> ActingAs {
        ActingAs::in_turn(role, is_restricted(role), true, Turn::same())
    }
}

/// Begins a call of a function: see [`names::begin`]. If the code of a mapping makes the call, names keep the meaning that they
/// had for the call around it.
pub fn begin_call() {
    if !is_acting() {
        names::begin();
    }
}

/// Whether a role is a superuser.
pub fn is_superuser(role: pg_sys::Oid) -> bool {
    // SAFETY: a catalog look-up of a role OID.
    unsafe { pg_sys::superuser_arg(role) }
}

/// Whether acting as `role` is restricted: see [`ActingAs::untrusted`].
pub fn is_restricted(role: pg_sys::Oid) -> bool {
    role != current_user() && !is_superuser(role)
}

impl Drop for ActingAs {
    fn drop(&mut self) {
        drop(self.settings.take());
        acts_as_owner(self.acted_as_owner);
        if let Some(owner) = self.owner
            && owner != self.user
        {
            compiled::end_turn(owner);
        }
        // SAFETY: restores the values that `in_turn` read.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.security_context) }
    }
}

/// The role that the backend acts as: in a `SECURITY DEFINER` function, the function's owner.
pub fn current_user() -> pg_sys::Oid {
    // SAFETY: reads a backend variable.
    unsafe { pg_sys::GetUserId() }
}

/// Whether it is certain that the calling role may read all of a relation. Inside another function the caller
/// is not known, because that function may run as its owner.
pub fn caller_may_read(relation: pg_sys::Oid) -> bool {
    // SAFETY: reads a backend variable.
    let caller = unsafe { pg_sys::GetOuterUserId() };
    is_outermost() && has_for_all_rows(relation, caller, pg_sys::ACL_SELECT)
}

/// Whether a role may lock all rows of a relation: whether it may update them, and no policy hides some.
pub fn may_lock_rows(relation: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    has_for_all_rows(relation, role, pg_sys::ACL_UPDATE)
}

/// Whether a role may use a relation's schema, and has these privileges on the relation: `DELETE` on the whole, others on
/// a column at least.
pub fn has_privileges(relation: pg_sys::Oid, role: pg_sys::Oid, privileges: &[&str]) -> bool {
    // SAFETY: catalog look-ups.
    unsafe {
        let schema = pg_sys::get_rel_namespace(relation);
        schema != pg_sys::InvalidOid
            && may_use_schema(schema, role)
            && privileges.iter().all(|privilege| {
                let (privilege, of_columns) = match *privilege {
                    "SELECT" => (pg_sys::ACL_SELECT, true),
                    "INSERT" => (pg_sys::ACL_INSERT, true),
                    "UPDATE" => (pg_sys::ACL_UPDATE, true),
                    "DELETE" => (pg_sys::ACL_DELETE, false),
                    _ => return false,
                };
                #[allow(clippy::unnecessary_cast)] // wider since PostgreSQL 16
                let privilege = privilege as pg_sys::AclMode;
                let mut gone = false;
                let of_relation =
                    pg_sys::pg_class_aclcheck_ext(relation, role, privilege, &mut gone);
                of_relation == pg_sys::AclResult::ACLCHECK_OK
                    || of_columns
                        && !gone
                        && pg_sys::pg_attribute_aclcheck_all(
                            relation,
                            role,
                            privilege,
                            pg_sys::AclMaskHow::ACLMASK_ANY,
                        ) == pg_sys::AclResult::ACLCHECK_OK
            })
    }
}

fn may_use_schema(schema: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    #[allow(clippy::unnecessary_cast)] // wider since PostgreSQL 16
    let usage = pg_sys::ACL_USAGE as pg_sys::AclMode;
    // SAFETY: a catalog look-up.
    let result = unsafe {
        #[cfg(feature = "pg15")]
        let result = pg_sys::pg_namespace_aclcheck(schema, role, usage);
        #[cfg(not(feature = "pg15"))]
        let result = pg_sys::object_aclcheck(pg_sys::NamespaceRelationId, schema, role, usage);
        result
    };
    result == pg_sys::AclResult::ACLCHECK_OK
}

/// Whether a role has a privilege (an `ACL_` constant) for a relation, and no policy hides rows from the role.
fn has_for_all_rows(relation: pg_sys::Oid, role: pg_sys::Oid, privilege: u32) -> bool {
    #[allow(clippy::unnecessary_cast)] // wider since PostgreSQL 16
    let privilege = privilege as pg_sys::AclMode;
    // SAFETY: catalog look-ups.
    unsafe {
        pg_sys::pg_class_aclcheck(relation, role, privilege) == pg_sys::AclResult::ACLCHECK_OK
            && pg_sys::check_enable_rls(relation, role, true)
                != pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
    }
}

/// The argument of the error context callback that reports the parameters of a client's statement.
///
/// Source: `ParamsErrorCbData` in `nodes/params.h`.
#[repr(C)]
struct Parameters {
    portal: *const std::ffi::c_char,
    values: pg_sys::ParamListInfo,
}

unsafe extern "C-unwind" {
    /// The server's own function. `pg_sys` wraps it in a function with another address.
    fn ParamsErrorCallback(arg: *mut std::ffi::c_void);
}

/// Whether the client's statement calls the extension directly, and not through another function. A function
/// that runs SQL pushes an error context callback. For a client's statement, the server pushes only the
/// callback that reports the parameters.
fn is_outermost() -> bool {
    // SAFETY: backend variables. The argument of this one callback is the struct above; that of any other callback
    // is not read. The pointers are compared, not followed.
    unsafe {
        let told = outside::context_stack();
        if told.is_null() {
            return true;
        }
        let parameters = ParamsErrorCallback as unsafe extern "C-unwind" fn(_) as usize;
        if (*told).callback.map(|callback| callback as usize) != Some(parameters) {
            return false;
        }
        let (portal, argument) = (pg_sys::ActivePortal, (*told).arg.cast::<Parameters>());
        (*told).previous.is_null()
            && !portal.is_null()
            && !argument.is_null()
            && !(*portal).portalParams.is_null()
            && (*argument).values == (*portal).portalParams
            && (*argument).portal == (*portal).name
    }
}

/// Whether a role with this OID exists.
pub fn role_exists(role: pg_sys::Oid) -> bool {
    // SAFETY: a catalog look-up, which returns null for a missing role.
    unsafe { !pg_sys::GetUserNameFromId(role, true).is_null() }
}

/// Whether `role` has the rights of `owner`: `role` is `owner`, a member that inherits its rights, or a
/// superuser.
pub fn may_act_as(role: pg_sys::Oid, owner: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups of two role OIDs.
    unsafe { pg_sys::has_privs_of_role(role, owner) }
}
