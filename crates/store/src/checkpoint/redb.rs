//! Checkpoints in one database file on the file layer.
//!
//! Owns the tables, the format version, the checks at opening and what happens to a file that cannot be opened: it is set
//! aside, never deleted, and the store starts empty (the groups resynchronise). The library panics on some rotten headers, so
//! a note beside the file counts the starts that ended while opening it; after [`MAX_ATTEMPTS`] it counts as unusable.

use super::backend::Backend;
use super::row::{self, GroupRow};
use super::{AllCheckpoints, CheckpointError, CheckpointStore};
use crate::files::{FileError, FileLayer, OpenMode};
use crate::log::Corruption;
use bytes::Bytes;
use pairline_group::GroupId;
use pairline_group::io::{CheckpointDelta, GroupCheckpoint};
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError, Table, TableDefinition,
    TableError,
};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const META: TableDefinition<'_, &str, u32> = TableDefinition::new("meta");
const GROUPS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("groups");
const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
/// Version of the tables' layout that this build writes, and the highest that it reads.
const FORMAT: u32 = 1;

/// Starts that may end while opening the file before it is set aside.
pub const MAX_ATTEMPTS: u8 = 3;

type Rows<'t> = Table<'t, &'static [u8], &'static [u8]>;

/// A checkpoint file that could not be used: it was set aside and an empty one begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unopenable {
    /// What was wrong with it.
    pub reason: String,
    /// Where it is now.
    pub kept_as: PathBuf,
}

/// Checkpoints in a database file.
#[derive(Debug)]
pub struct RedbCheckpoints {
    files: Arc<dyn FileLayer>,
    path: PathBuf,
    cache_bytes: usize,
    /// `None` after a failed write, until the next use opens it again.
    database: Option<Database>,
    sync_failed: Arc<AtomicBool>,
}

/// Why a file cannot be used as it is.
enum Refused {
    /// Its content is not a whole database of ours.
    Unusable(String),
    /// Anything that must stop the start instead.
    Error(CheckpointError),
}

fn database_error(error: impl Into<redb::Error>) -> CheckpointError {
    let error = Box::new(error.into());
    match error.as_ref() {
        redb::Error::Io(io) if matches!(io.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            CheckpointError::NoSpace(error)
        }
        _ => CheckpointError::Database(error),
    }
}

/// Sorts an error met while opening: damage makes the file unusable, a failing disk does not.
fn refused(path: &Path, error: impl Into<redb::Error>) -> Refused {
    match error.into() {
        redb::Error::UpgradeRequired(version) => Refused::Error(CheckpointError::Newer {
            path: path.to_path_buf(),
            found: u32::from(version),
            supported: FORMAT,
        }),
        redb::Error::Io(io) if matches!(io.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
            Refused::Unusable(io.to_string())
        }
        error @ (redb::Error::Io(_) | redb::Error::PreviousIo) => Refused::Error(database_error(error)),
        error => Refused::Unusable(error.to_string()),
    }
}

impl RedbCheckpoints {
    /// Opens the database at `path`, or begins one. `cache_bytes` bounds the library's page cache.
    pub fn open(
        files: Arc<dyn FileLayer>,
        path: PathBuf,
        cache_bytes: usize,
    ) -> Result<(RedbCheckpoints, Option<Unopenable>), CheckpointError> {
        let sync_failed = Arc::new(AtomicBool::new(false));
        let mut store = RedbCheckpoints { files, path, cache_bytes, database: None, sync_failed };
        let discarded = match store.open_counted() {
            Ok(found) => {
                store.database = found;
                None
            }
            Err(Refused::Error(error)) => return Err(error),
            Err(Refused::Unusable(reason)) => {
                let kept_as = store.path.with_extension("unusable");
                store.files.rename(&store.path, &kept_as)?;
                store.files.sync_dir(store.path.parent().unwrap_or(Path::new("")))?;
                Some(Unopenable { reason, kept_as })
            }
        };
        if store.database.is_none() {
            store.database = Some(store.begin()?);
        }
        Ok((store, discarded))
    }

    fn backend(&self, path: &Path, mode: OpenMode) -> Result<Backend, FileError> {
        let file = self.files.open(path, mode)?;
        Ok(Backend { file, sync_failed: self.sync_failed.clone() })
    }

    fn database(&self, backend: Backend) -> Result<Database, DatabaseError> {
        let mut builder = Database::builder();
        builder.set_cache_size(self.cache_bytes);
        builder.create_with_backend(backend)
    }

    /// Opens the file if there is one, unless that has ended too many starts in a row.
    fn open_counted(&self) -> Result<Option<Database>, Refused> {
        let note = self.path.with_extension("opening");
        let failed = |error: FileError| Refused::Error(error.into());
        let file = self.files.open(&note, OpenMode::CreateOrWrite).map_err(failed)?;
        let mut attempts = [0];
        if !file.is_empty().map_err(failed)? {
            file.read_at(0, &mut attempts).map_err(failed)?;
        }
        let opened = if attempts[0] >= MAX_ATTEMPTS {
            Err(Refused::Unusable(format!("opening it has ended {} starts in a row", attempts[0])))
        } else {
            // Not synced: it must outlive the process, not the machine.
            file.write_at(0, &[attempts[0] + 1]).map_err(failed)?;
            self.open_existing()
        };
        self.files.remove(&note).map_err(failed)?;
        opened
    }

    /// Opens the file if there is one, and checks all of it: pages against their checksums, then the format.
    fn open_existing(&self) -> Result<Option<Database>, Refused> {
        let backend = match self.backend(&self.path, OpenMode::Write) {
            Ok(backend) => backend,
            Err(FileError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(Refused::Error(error.into())),
        };
        let length = backend.file.len().map_err(|error| Refused::Error(error.into()))?;
        if length == 0 {
            return Err(Refused::Unusable("the file is empty".to_owned()));
        }
        let mut database = self.database(backend).map_err(|error| refused(&self.path, error))?;
        let whole = database.check_integrity().map_err(|error| refused(&self.path, error))?;
        if !whole {
            return Err(Refused::Unusable("pages do not match their checksums".to_owned()));
        }
        let transaction = database.begin_read().map_err(|error| refused(&self.path, error))?;
        let format = match transaction.open_table(META) {
            Ok(table) => table.get("format").map_err(|error| refused(&self.path, error))?.map(|found| found.value()),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(refused(&self.path, error)),
        };
        drop(transaction);
        match format {
            Some(FORMAT) => Ok(Some(database)),
            Some(found) if found > FORMAT => {
                let path = self.path.clone();
                Err(Refused::Error(CheckpointError::Newer { path, found, supported: FORMAT }))
            }
            _ => Err(Refused::Unusable("it says no format".to_owned())),
        }
    }

    /// Creates an empty database under another name and renames it, so that a crash leaves none or a whole one.
    fn begin(&self) -> Result<Database, CheckpointError> {
        let temporary = self.path.with_extension("new");
        match self.files.remove(&temporary) {
            Ok(()) | Err(FileError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let backend = self.backend(&temporary, OpenMode::CreateNew)?;
        let database = self.database(backend).map_err(database_error)?;
        let transaction = database.begin_write().map_err(database_error)?;
        {
            let mut meta = transaction.open_table(META).map_err(database_error)?;
            meta.insert("format", FORMAT).map_err(database_error)?;
            transaction.open_table(GROUPS).map_err(database_error)?;
            transaction.open_table(RECORDS).map_err(database_error)?;
        }
        transaction.commit().map_err(database_error)?;
        self.files.rename(&temporary, &self.path)?;
        self.files.sync_dir(self.path.parent().unwrap_or(Path::new("")))?;
        Ok(database)
    }

    /// The open database, opened again if a failed write closed it.
    fn usable(&mut self) -> Result<&Database, CheckpointError> {
        if self.sync_failed.load(Ordering::Relaxed) {
            return Err(CheckpointError::Dead);
        }
        if self.database.is_none() {
            let backend = self.backend(&self.path, OpenMode::Write)?;
            self.database = Some(self.database(backend).map_err(database_error)?);
        }
        self.database.as_ref().ok_or(CheckpointError::Dead)
    }

    /// Runs a write transaction; after a failure the library's handle is not used again.
    fn transact(
        &mut self,
        change: impl FnOnce(&mut Rows<'_>, &mut Rows<'_>) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let done = write_transaction(self.usable()?, change);
        if let Err(CheckpointError::NoSpace(_) | CheckpointError::Database(_)) = done {
            self.database = None;
        }
        if self.sync_failed.load(Ordering::Relaxed) { Err(CheckpointError::Dead) } else { done }
    }
}

fn write_transaction(
    database: &Database,
    change: impl FnOnce(&mut Rows<'_>, &mut Rows<'_>) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    let mut transaction = database.begin_write().map_err(database_error)?;
    transaction.set_durability(Durability::Immediate).map_err(database_error)?;
    // Opening after a crash must not walk the whole file.
    transaction.set_quick_repair(true);
    {
        let mut groups = transaction.open_table(GROUPS).map_err(database_error)?;
        let mut records = transaction.open_table(RECORDS).map_err(database_error)?;
        change(&mut groups, &mut records)?;
    }
    transaction.commit().map_err(database_error)
}

/// Removes all record rows of a group.
fn clear(records: &mut Rows<'_>, group: GroupId) -> Result<(), CheckpointError> {
    let first = row::first_key(group);
    match row::end_key(group) {
        Some(end) => records.retain_in::<&[u8], _>(first.as_slice()..end.as_slice(), |_, _| false),
        None => records.retain_in::<&[u8], _>(first.as_slice().., |_, _| false),
    }
    .map_err(database_error)
}

fn write_delta(groups: &mut Rows<'_>, records: &mut Rows<'_>, delta: &CheckpointDelta) -> Result<(), CheckpointError> {
    let group = delta.group;
    let key = row::group_key(group);
    let stored = groups.get(key.as_slice()).map_err(database_error)?.map(|found| row::decode_group(found.value()));
    // A damaged row must not be mended by a delta: its sum stays wrong and the next read says so.
    let mut new = stored.and_then(Result::ok).unwrap_or_default();
    if delta.clear {
        clear(records, group)?;
        (new.count, new.sum) = (0, 0);
    }
    for key in &delta.deletes {
        let key = row::record_key(group, key).ok_or(CheckpointError::TooLarge { group })?;
        if let Some(old) = records.remove(key.as_slice()).map_err(database_error)? {
            new.count = new.count.wrapping_sub(1);
            new.sum = new.sum.wrapping_sub(row::row_sum(&key, old.value()));
        }
    }
    for (key, record) in &delta.puts {
        let key = row::record_key(group, key).ok_or(CheckpointError::TooLarge { group })?;
        let value = row::encode_record(record).ok_or(CheckpointError::TooLarge { group })?;
        match records.insert(key.as_slice(), value.as_slice()).map_err(database_error)? {
            Some(old) => new.sum = new.sum.wrapping_sub(row::row_sum(&key, old.value())),
            None => new.count = new.count.wrapping_add(1),
        }
        new.sum = new.sum.wrapping_add(row::row_sum(&key, &value));
    }
    new.meta = delta.meta.to_vec();
    groups.insert(key.as_slice(), row::encode_group(&new).as_slice()).map_err(database_error)?;
    Ok(())
}

/// Reads a group's rows against its group row.
fn read_group(
    group: GroupId,
    stored: &[u8],
    records: &impl ReadableTable<&'static [u8], &'static [u8]>,
) -> Result<Result<GroupCheckpoint, Corruption>, StorageError> {
    let damaged = |reason| Ok(Err(Corruption::CheckpointDamaged { reason }));
    let expected = match row::decode_group(stored) {
        Ok(expected) => expected,
        Err(reason) => return damaged(reason),
    };
    let mut read = GroupRow::default();
    let mut checkpoint = GroupCheckpoint { meta: Bytes::from(expected.meta), records: Vec::new() };
    let first = row::first_key(group);
    let rows = match row::end_key(group) {
        Some(end) => records.range::<&[u8]>(first.as_slice()..end.as_slice())?,
        None => records.range::<&[u8]>(first.as_slice()..)?,
    };
    for found in rows {
        let (key, value) = found?;
        read.count += 1;
        read.sum = read.sum.wrapping_add(row::row_sum(key.value(), value.value()));
        match (row::decode_key(key.value()), row::decode_record(value.value())) {
            (Ok(key), Ok(record)) => checkpoint.records.push((key, record)),
            (Err(reason), _) | (_, Err(reason)) => return damaged(reason),
        }
    }
    if (read.count, read.sum) != (expected.count, expected.sum) {
        return damaged("records do not add up to the group's checksum");
    }
    Ok(Ok(checkpoint))
}

impl CheckpointStore for RedbCheckpoints {
    fn write(&mut self, deltas: &[CheckpointDelta]) -> Result<(), CheckpointError> {
        self.transact(|groups, records| deltas.iter().try_for_each(|delta| write_delta(groups, records, delta)))
    }

    fn forget(&mut self, group: GroupId) -> Result<(), CheckpointError> {
        self.transact(|groups, records| {
            groups.remove(row::group_key(group).as_slice()).map_err(database_error)?;
            clear(records, group)
        })
    }

    fn read(&mut self, group: GroupId) -> Result<Option<Result<GroupCheckpoint, Corruption>>, CheckpointError> {
        let transaction = self.usable()?.begin_read().map_err(database_error)?;
        let groups = transaction.open_table(GROUPS).map_err(database_error)?;
        let records = transaction.open_table(RECORDS).map_err(database_error)?;
        let key = row::group_key(group);
        let stored = groups.get(key.as_slice()).map_err(database_error)?;
        let read = stored.map(|row| read_group(group, row.value(), &records)).transpose();
        read.map_err(database_error)
    }

    fn read_all(&mut self) -> Result<AllCheckpoints, CheckpointError> {
        let transaction = self.usable()?.begin_read().map_err(database_error)?;
        let groups = transaction.open_table(GROUPS).map_err(database_error)?;
        let records = transaction.open_table(RECORDS).map_err(database_error)?;
        let mut all = Vec::new();
        for found in groups.iter().map_err(database_error)? {
            let (key, value) = found.map_err(database_error)?;
            // A key of another length cannot be attributed to a group; its rows are seen by no one.
            let Ok(key) = <[u8; 4]>::try_from(key.value()) else {
                continue;
            };
            let group = row::group_of(key);
            all.push((group, read_group(group, value.value(), &records).map_err(database_error)?));
        }
        Ok(all)
    }
}
