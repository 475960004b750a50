//! A file system of our own, whose power can be cut. It keeps everything in memory: what is durable
//! and what is not are told apart in [`image`](crate::image).
//!
//! It knows what the standard library, sled and `flock` need: files, folders, renames. The kernel
//! keeps locks itself, and writes through: it holds nothing back that this does not know.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};
use syncline_tests::Random;

use crate::content::PAGE_BYTES;
use crate::image::{Forgotten, Image, Kind, Survival};

/// Names and attributes change only through this mount: the kernel may remember them.
const TTL: Duration = Duration::from_secs(60);
/// There is always room.
const FREE_PAGES: u64 = 1 << 20;

/// A disk in memory, mounted in a folder of its own.
#[derive(Debug)]
pub(crate) struct Disk {
    mountpoint: tempfile::TempDir,
    power: Power,
    session: Option<BackgroundSession>,
}

/// The image while the power is on.
#[derive(Clone, Debug)]
struct Power(Arc<Mutex<Option<Image>>>);

impl Disk {
    /// An empty disk. One that is not honest does nothing on `fsync` and says that it did.
    pub(crate) fn new(is_honest: bool) -> io::Result<Self> {
        let power = Power(Arc::new(Mutex::new(Some(Image::new(is_honest)))));
        let mut disk = Self { mountpoint: tempfile::tempdir()?, power, session: None };
        disk.mount()?;
        Ok(disk)
    }

    pub(crate) fn path(&self) -> &Path {
        self.mountpoint.path()
    }

    fn mount(&mut self) -> io::Result<()> {
        let mut config = fuser::Config::default();
        config.mount_options = vec![MountOption::FSName("volatile".to_owned())];
        let disk = VolatileFs(self.power.clone());
        self.session = Some(fuser::spawn_mount(disk, self.path(), &config)?);
        Ok(())
    }

    /// From here on nothing is read and nothing is written, and each call is an error.
    pub(crate) fn cut_power(&self, survival: Survival, random: &mut Random) -> (Dark, Forgotten) {
        let image = self.power.lock().take().unwrap_or_else(|| Image::new(true));
        let (image, forgotten) = image.after_a_cut(survival, random);
        (Dark(image), forgotten)
    }

    /// Mounts what survived. Nothing may have a file of this disk open.
    pub(crate) fn restore_power(&mut self, dark: Dark) -> io::Result<()> {
        if let Some(session) = self.session.take() {
            match session.umount_and_join() {
                // One run in several ended with this, why is not known. It can hide no loss: what
                // counts is in the image, and a mount that is still there fails the next one.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                ended => ended?,
            }
        }
        *self.power.lock() = Some(dark.0);
        self.mount()
    }

    /// Where a server may keep its data.
    pub(crate) fn folder(&self) -> PathBuf {
        self.path().join("data")
    }
}

/// What a disk holds while it has no power.
#[derive(Debug)]
pub(crate) struct Dark(Image);

impl Power {
    fn lock(&self) -> MutexGuard<'_, Option<Image>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, call: impl FnOnce(&mut Image) -> Result<T, Errno>) -> Result<T, Errno> {
        self.lock().as_mut().ok_or(Errno::EIO).and_then(call)
    }

    fn attributes(&self, node: u64) -> Result<FileAttr, Errno> {
        self.with(|image| attributes(image, node))
    }
}

fn attributes(image: &Image, node: u64) -> Result<FileAttr, Errno> {
    let (size, kind, perm, nlink) = match image.kind(node)? {
        Kind::File { bytes } => (bytes, FileType::RegularFile, 0o644, 1),
        Kind::Folder => (0, FileType::Directory, 0o755, 2),
    };
    Ok(FileAttr {
        ino: INodeNo(node),
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: PAGE_BYTES as u32,
        flags: 0,
    })
}

struct VolatileFs(Power);

/// Sends what came out, or why nothing did.
macro_rules! answer {
    ($reply:ident, $result:expr, $value:pat => $sent:expr) => {
        match $result {
            Ok($value) => $sent,
            Err(error) => $reply.error(error),
        }
    };
}

impl VolatileFs {
    fn sync(&self, node: INodeNo, reply: ReplyEmpty) {
        answer!(reply, self.0.with(|image| image.sync(node.0)), () => reply.ok());
    }

    fn made(&self, made: impl FnOnce(&mut Image) -> Result<u64, Errno>) -> Result<FileAttr, Errno> {
        self.0.with(|image| made(image).and_then(|node| attributes(image, node)))
    }
}

impl Filesystem for VolatileFs {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(reply, self.made(|image| image.find(parent.0, name)), attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, self.0.attributes(node.0), attr => reply.attr(&TTL, &attr));
    }

    fn setattr(
        &self,
        _: &Request,
        node: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = self.0.with(|image| {
            size.map_or(Ok(()), |bytes| image.set_len(node.0, bytes))?;
            attributes(image, node.0)
        });
        answer!(reply, set, attr => reply.attr(&TTL, &attr));
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        answer!(reply, self.made(|image| image.create_folder(parent.0, name)), attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let created = self.made(|image| image.create_file(parent.0, name));
        answer!(reply, created, attr => {
            reply.created(&TTL, &attr, Generation(0), FileHandle(0), FopenFlags::empty());
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = self.0.with(|image| image.remove_file(parent.0, name));
        answer!(reply, removed, () => reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = self.0.with(|image| image.remove_folder(parent.0, name));
        answer!(reply, removed, () => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to_parent: INodeNo,
        to_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = if flags.is_empty() {
            self.0.with(|image| image.rename((parent.0, name), (to_parent.0, to_name)))
        } else {
            Err(Errno::EINVAL)
        };
        answer!(reply, renamed, () => reply.ok());
    }

    fn open(&self, _: &Request, node: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        answer!(reply, self.0.attributes(node.0), _ => {
            reply.opened(FileHandle(0), FopenFlags::empty());
        });
    }

    fn read(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.0.with(|image| image.read(node.0, offset, size as usize));
        answer!(reply, read, data => reply.data(&data));
    }

    fn write(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.0.with(|image| image.write(node.0, offset, data));
        let length = data.len() as u32;
        answer!(reply, written.map(|()| length), length => reply.written(length));
    }

    /// A close is no promise.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    /// `fdatasync` differs in nothing that is kept here.
    fn fsync(&self, _: &Request, node: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(node, reply);
    }

    fn fsyncdir(&self, _: &Request, node: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(node, reply);
    }

    fn readdir(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.0.with(|image| {
            let names = image.list(node.0)?.into_iter();
            let entries = names.map(|(name, node)| Ok((name, attributes(image, node)?)));
            entries.collect::<Result<Vec<_>, Errno>>()
        });
        match listed {
            Ok(entries) => {
                for (place, (name, attr)) in (1..).zip(entries).skip(offset as usize) {
                    if reply.add(attr.ino, place, attr.kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(error),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let page = PAGE_BYTES as u32;
        reply.statfs(FREE_PAGES, FREE_PAGES, FREE_PAGES, 1 << 20, 1 << 20, page, 255, page);
    }
}
