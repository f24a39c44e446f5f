//! What must be so at the end of a segment and of the trail.

use super::walk::{Walk, file_name};
use super::{Fault, NotWhole, Outside, fault};
use crate::audit::checkpoint::UNSIGNED;
use crate::audit::folder::{self, SegmentFile, segment_name};
use crate::audit::log::Closed;

impl Walk<'_> {
    /// Compares a closed segment with its line in the manifest.
    pub(super) fn close(
        &mut self,
        segment: &SegmentFile,
        is_line_due: bool,
    ) -> Result<(), NotWhole> {
        let name = file_name(segment);
        self.expect_no_torn_end(segment.first)?;
        let Some((_, note)) = self.newest.clone().filter(|(it, _)| it.size == self.log.size())
        else {
            return Err(fault(&name, "is closed, and its last checkpoint is missing").into());
        };
        let computed = self.log.close(note);
        if !self.manifest.iter().any(|closed| closed.first == segment.first) {
            self.manifest = self.read_manifest()?;
        }
        let what = match self.manifest.iter().find(|closed| closed.first == segment.first) {
            Some(closed) if *closed == computed => return Ok(()),
            Some(_) => format!("its line for {} is not what the segment says", computed.segment),
            None if is_line_due => format!("has no line for {}, which is closed", computed.segment),
            None => return Ok(()),
        };
        Err(fault(folder::MANIFEST, what).into())
    }

    /// The last record of a segment says that there is a next one.
    pub(super) fn expect_next(&self, segment: &SegmentFile) -> Result<(), NotWhole> {
        let wanted = self.log.size() + 1;
        if folder::find(self.trail.directory, wanted).is_some() {
            return Ok(());
        }
        let name = file_name(segment);
        let what = format!("is missing: the last record of {name} says that it is the next");
        Err(fault(&segment_name(wanted), what).into())
    }

    /// What a crash left at a segment's end, the next start sets aside.
    fn expect_no_torn_end(&self, first: u64) -> Result<(), Fault> {
        let checkpoints = folder::checkpoints(self.trail.directory, first);
        let checkpoints = checkpoints.file_name().unwrap_or_default().to_string_lossy();
        for (place, what, torn) in [
            (segment_name(first).as_str(), "line", self.torn),
            (checkpoints.as_ref(), "checkpoint", self.torn_checkpoint),
        ] {
            if torn > 0 {
                return Err(fault(
                    place,
                    format_args!("ends with {torn} bytes that are no whole {what}"),
                ));
            }
        }
        Ok(())
    }

    pub(super) fn conclude(&mut self) -> Result<(), NotWhole> {
        let (size, newest) = (self.log.size(), segment_name(self.log.segment()));
        if self.told > size {
            let what =
                format!("tells of records up to the last one's segment, which ends at {size}");
            return Err(fault(folder::MANIFEST, what).into());
        }
        let is_signed = self.signed() == size;
        // Nothing was written from before the trail was read until now, and all is signed.
        if self.was_stopped && self.is_stopped_now() {
            self.expect_no_torn_end(self.log.segment())?;
            if !self.ends_with("stop") {
                return Err(fault(&newest, "ends without the stop that its gateway wrote").into());
            }
            if !is_signed {
                let what = "ends with a stop, and the checkpoint after it is missing";
                return Err(fault(&newest, what).into());
            }
            if self.signed_lines < self.manifest.len() {
                let what = "is missing, or does not sign all lines";
                return Err(fault(folder::MANIFEST_SIGNATURE, what).into());
            }
        }
        if let (Some(since), Some((last, _))) = (self.unsigned_since, self.last.as_ref())
            && last.since(since) > UNSIGNED
            && !self.is_signed_meanwhile()
        {
            let what = format!(
                "has no checkpoint after record {}, though one is made every second",
                self.signed()
            );
            return Err(fault(&newest, what).into());
        }
        self.account_for_deleted()?;
        if let Some(Outside { checkpoint, name }) = self.outside.front() {
            let made_of = checkpoint.size;
            let what =
                format!("was made of {made_of} records, and the trail has {size}: it was cut");
            return Err(fault(name, what).into());
        }
        if let (0, Some(Outside { checkpoint, name })) = (self.compared, self.trail.outside.last())
        {
            let what = format!(
                "was made of records 1 to {}, and those before {} were deleted: it can't be checked",
                checkpoint.size, self.first
            );
            return Err(fault(name, what).into());
        }
        Ok(())
    }

    /// What is not there must be what retention says, in a record with a checkpoint of its own, that
    /// it deleted.
    fn account_for_deleted(&self) -> Result<(), Fault> {
        let deleted = self.deletions.iter().map(|deletion| deletion.last).max().unwrap_or(0);
        if deleted < self.first - 1 {
            let missing = deleted + 1;
            let is_its = |closed: &&Closed| (closed.first..=closed.last).contains(&missing);
            let name = self.manifest.iter().find(is_its).map_or("", |closed| &closed.segment);
            let fault = fault(name, "is missing, and no record says that retention deleted it");
            return Err(self.known(fault, missing));
        }
        Ok(())
    }

    /// Whether the open segment has a newer checkpoint than when it was read, however long ago.
    fn is_signed_meanwhile(&mut self) -> bool {
        let first = self.log.segment();
        let open = folder::find(self.trail.directory, first);
        let signed = self.signed();
        let row = open.and_then(|open| self.checkpoints_of(&open).ok()).unwrap_or_default();
        row.back().is_some_and(|(checkpoint, _)| checkpoint.size > signed)
    }

    /// A fault at a record, with what the gateway itself knows of it.
    pub(super) fn known(&self, fault: Fault, record: u64) -> Fault {
        let its = self.manifest.iter().find(|it| (it.first..=it.last).contains(&record));
        match its.and_then(|closed| closed.lost.as_ref()) {
            None => fault,
            Some(lost) => {
                Fault { what: format!("{}; the gateway noticed then: {lost}", fault.what), ..fault }
            }
        }
    }

    pub(super) fn ends_with(&self, name: &str) -> bool {
        let event = self.last.as_ref().and_then(|(_, event)| event.as_ref()?.name.as_deref());
        event == Some(name)
    }
}
