//! What the code of a mapping may not do to the forwarder's session, while the backend acts as the mapping's owner.
//!
//! - Some settings would end the session: an error would be fatal, or the transaction would be out of time at once. That
//!   such a change is undone with the owner's turn comes too late.
//! - A short tcp_user_timeout holds at once: the connection of a client that is slow to read a NOTICE would be closed.
//! - With another client_encoding, a NOTICE is not in the encoding that the client reads: some clients then close the
//!   connection.
//! - Constraints that it defers stay deferred for the mappings of others, and for the commit, where no message can be blamed.
//! - Advisory locks of the session outlive the transaction, and its rollback. Call by call they would fill the server's
//!   table of locks. Releasing them could take a lock from the forwarder.

use std::ffi::{CStr, c_char, c_int, c_void};

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::raise::raise;
use super::temporary::is_acting;
use crate::error::Error;

/// The setting, of type boolean.
const EXIT_ON_ERROR: &CStr = c"exit_on_error";

/// The settings of type integer. PostgreSQL 17 has the first.
const TRANSACTION_TIMEOUT: &CStr = c"transaction_timeout";
const TCP_USER_TIMEOUT: &CStr = c"tcp_user_timeout";

/// The setting, of type text.
const CLIENT_ENCODING: &CStr = c"client_encoding";

/// The functions that take or release advisory locks of the session: `pg_advisory_lock(bigint)` to
/// `pg_advisory_unlock_all()`.
const SESSION_LOCKS: std::ops::RangeInclusive<u32> =
    pg_sys::F_PG_ADVISORY_LOCK_INT8..=pg_sys::F_PG_ADVISORY_UNLOCK_ALL;

static mut BEFORE_ACCESS: pg_sys::object_access_hook_type = None;
static mut BEFORE_EXIT_ON_ERROR: pg_sys::GucBoolCheckHook = None;
static mut BEFORE_TRANSACTION_TIMEOUT: pg_sys::GucIntCheckHook = None;
static mut BEFORE_TCP_USER_TIMEOUT: pg_sys::GucIntCheckHook = None;
static mut BEFORE_CLIENT_ENCODING: pg_sys::GucStringCheckHook = None;
static mut BEFORE_UTILITY: pg_sys::ProcessUtility_hook_type = None;

/// Called once, when the library is loaded.
pub fn watch() {
    // SAFETY: the server's own list of settings. The type says of which struct each is the beginning. Whatever is called
    // before is called still.
    unsafe {
        BEFORE_ACCESS = pg_sys::object_access_hook;
        pg_sys::object_access_hook = Some(access);
        BEFORE_UTILITY = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(utility);
        for setting in settings() {
            let name = CStr::from_ptr((*setting).name);
            if name == EXIT_ON_ERROR && (*setting).vartype == pg_sys::config_type::PGC_BOOL {
                let setting = setting.cast::<pg_sys::config_bool>();
                BEFORE_EXIT_ON_ERROR = (*setting).check_hook.replace(check_exit_on_error);
            }
            if name == TRANSACTION_TIMEOUT && (*setting).vartype == pg_sys::config_type::PGC_INT {
                let setting = setting.cast::<pg_sys::config_int>();
                BEFORE_TRANSACTION_TIMEOUT =
                    (*setting).check_hook.replace(check_transaction_timeout);
            }
            if name == TCP_USER_TIMEOUT && (*setting).vartype == pg_sys::config_type::PGC_INT {
                let setting = setting.cast::<pg_sys::config_int>();
                BEFORE_TCP_USER_TIMEOUT = (*setting).check_hook.replace(check_tcp_user_timeout);
            }
            if name == CLIENT_ENCODING && (*setting).vartype == pg_sys::config_type::PGC_STRING {
                let setting = setting.cast::<pg_sys::config_string>();
                BEFORE_CLIENT_ENCODING = (*setting).check_hook.replace(check_client_encoding);
            }
        }
    }
}

/// All settings of the server.
unsafe fn settings() -> Vec<*mut pg_sys::config_generic> {
    // SAFETY: the server's array has as many members as it says. Since PostgreSQL 16 it is a copy.
    unsafe {
        #[cfg(feature = "pg15")]
        return std::slice::from_raw_parts(
            pg_sys::get_guc_variables(),
            pg_sys::GetNumConfigOptions() as usize,
        )
        .to_vec();
        #[cfg(not(feature = "pg15"))]
        {
            let mut count: c_int = 0;
            let array = pg_sys::get_guc_variables(&mut count);
            let settings = std::slice::from_raw_parts(array, count as usize).to_vec();
            pg_sys::pfree(array.cast());
            settings
        }
    }
}

// The hooks raise no error: they run in the midst of the server's code.
unsafe extern "C-unwind" fn check_exit_on_error(
    new: *mut bool,
    extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: passes the server's arguments on.
    unsafe {
        !is_refused(
            source,
            c"the code of a mapping may not change setting \"exit_on_error\"",
        ) && BEFORE_EXIT_ON_ERROR.is_none_or(|before| before(new, extra, source))
    }
}

unsafe extern "C-unwind" fn check_transaction_timeout(
    new: *mut c_int,
    extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: passes the server's arguments on.
    unsafe {
        let error = c"the code of a mapping may not change setting \"transaction_timeout\"";
        !is_refused(source, error)
            && BEFORE_TRANSACTION_TIMEOUT.is_none_or(|before| before(new, extra, source))
    }
}

unsafe extern "C-unwind" fn check_tcp_user_timeout(
    new: *mut c_int,
    extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: passes the server's arguments on.
    unsafe {
        let error = c"the code of a mapping may not change setting \"tcp_user_timeout\"";
        !is_refused(source, error)
            && BEFORE_TCP_USER_TIMEOUT.is_none_or(|before| before(new, extra, source))
    }
}

unsafe extern "C-unwind" fn check_client_encoding(
    new: *mut *mut c_char,
    extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: passes the server's arguments on.
    unsafe {
        !is_refused(
            source,
            c"the code of a mapping may not change setting \"client_encoding\"",
        ) && BEFORE_CLIENT_ENCODING.is_none_or(|before| before(new, extra, source))
    }
}

/// Refuses what the code of a mapping sets, and says why.
fn is_refused(source: pg_sys::GucSource::Type, error: &'static CStr) -> bool {
    let refused = is_acting() && source >= pg_sys::GucSource::PGC_S_INTERACTIVE;
    if refused {
        // SAFETY: what the macros GUC_check_errcode and GUC_check_errmsg set. The server only reads the texts.
        unsafe {
            pg_sys::GUC_check_errcode(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE as c_int);
            pg_sys::GUC_check_errmsg_string = error.as_ptr().cast_mut();
            pg_sys::GUC_check_errhint_string =
                c"Take the setting out of the mapping's SQL, or of the triggers and functions that it runs."
                    .as_ptr()
                    .cast_mut();
        }
    }
    refused
}

/// Called when the server is about to use an object: a function, before it is executed.
unsafe extern "C-unwind" fn access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    part: c_int,
    argument: *mut c_void,
) {
    if access == pg_sys::ObjectAccessType::OAT_FUNCTION_EXECUTE
        && SESSION_LOCKS.contains(&object.to_u32())
    {
        refuse_session_lock();
    }
    // SAFETY: passes the server's arguments on. An error leaves this function by a jump: it holds nothing.
    unsafe {
        if let Some(before) = BEFORE_ACCESS {
            before(access, class, object, part, argument);
        }
    }
}

/// The present role's own mappings may, and those of superusers.
#[pg_guard]
extern "C-unwind" fn refuse_session_lock() {
    // SAFETY: reads a backend variable.
    if is_acting() && unsafe { pg_sys::InSecurityRestrictedOperation() } {
        raise(Error::SessionLock);
    }
}

unsafe extern "C-unwind" {
    /// The server's own, without pgrx's guard, which would lose parts of an error.
    fn standard_ProcessUtility(
        statement: *mut pg_sys::PlannedStmt,
        text: *const c_char,
        keep: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        parameters: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        receiver: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
}

/// Called when the server is about to execute a statement that it does not plan.
unsafe extern "C-unwind" fn utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    keep: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    receiver: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: the statement has a node. The rest is passed on. An error leaves this function by a jump: it holds nothing.
    unsafe {
        if is_acting() && (*(*statement).utilityStmt).type_ == pg_sys::NodeTag::T_ConstraintsSetStmt
        {
            refuse_set_constraints();
        }
        let next = BEFORE_UTILITY.unwrap_or(standard_ProcessUtility);
        next(
            statement,
            text,
            keep,
            context,
            parameters,
            environment,
            receiver,
            completion,
        );
    }
}

/// The present role's own mappings may, and those of superusers.
#[pg_guard]
extern "C-unwind" fn refuse_set_constraints() {
    // SAFETY: reads a backend variable.
    if unsafe { pg_sys::InSecurityRestrictedOperation() } {
        raise(Error::SetConstraints);
    }
}
