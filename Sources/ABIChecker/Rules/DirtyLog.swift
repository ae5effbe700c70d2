// A migration copies the pages that the log names: what the host writes for a guest has to be in it.

extension Rule {
  static let dirtyLogPVClock = Rule(
    "DIRTY-LOG-PVCLOCK",
    "In a slot with KVM_MEM_LOG_DIRTY_PAGES every update of a record marks its page dirty, even if logging began after "
      + "the registration.",
    sources: [
      .document("Documentation/virt/kvm/api.rst, 4.8 KVM_GET_DIRTY_LOG"),
      .document("Documentation/virt/kvm/api.rst, 4.35, KVM_MEM_LOG_DIRTY_PAGES"),
    ],
    method:
      "Fetch the log, which clears it; make an update, compare all memory, fetch it again: pages in which a record "
      + "changed are in it.",
    scenarios: [.dirtyLog],
    coverage: [
      .observations(4, "updates of records in a slot that is logged"),
      .each(["before", "after"], "orders of logging and registration"),
    ]
  ) { timeline, findings in
    findings.expectLogged(in: timeline) { window in
      window.records.compactMap { record in
        record.place.map { LoggedWrite(place: $0, event: record.write.event) }
      }
    } covering: { write, slot, findings in
      let order = slot.began < write.event.number ? "before" : "after"
      findings.cover(order, of: "orders of logging and registration")
    }
  }

  static let dirtyLogWall = Rule(
    "DIRTY-LOG-WALL",
    "In a slot with KVM_MEM_LOG_DIRTY_PAGES a write of either wall-clock MSR marks the page of its record dirty.",
    sources: [
      .document("Documentation/virt/kvm/api.rst, 4.8 KVM_GET_DIRTY_LOG"),
      .document("Documentation/virt/kvm/api.rst, 4.35, KVM_MEM_LOG_DIRTY_PAGES"),
    ],
    method:
      "Fetch the log, which clears it; write 0x11 or 0x4b564d00, compare all memory, fetch it again.",
    scenarios: [.dirtyLog],
    coverage: [
      .observations(4, "writes of the wall clock in a slot that is logged"),
      .each(MSR.wallClocks.map(\.description), "MSRs"),
    ]
  ) { timeline, findings in
    findings.expectLogged(in: timeline) { window in
      window.walls.map { LoggedWrite(place: $0.place, event: $0.write, msr: $0.msr) }
    } covering: { write, _, findings in
      findings.cover(write.msr?.description ?? "", of: "MSRs")
    }
  }
}

/// A record that the guest asked for.
private struct LoggedWrite {
  var place: Place
  var event: Event
  var msr: Hex?
}

/// A slot that is logged.
private struct LoggedSlot {
  var memory: Int
  /// The number of the event in which logging began.
  var began: Int
  /// The place in the history of the last clearing of the log.
  var cleared: Int
  /// The pages that were written since then.
  var written: [(page: Int128, write: LoggedWrite, window: MemoryWindow)] = []

  /// Notes a window's changes, if the log was cleared before it began.
  mutating func note(_ window: MemoryWindow, _ writes: [LoggedWrite]) {
    guard cleared < window.beganAt else { return }
    for write in writes where write.place.memory == memory {
      for change in window.changes where write.place.contains(change) {
        for page in change.pages { written.append((page, write, window)) }
      }
    }
  }
}

extension Findings {
  /// Every change in a place that `writes` names is in the log that is fetched next.
  fileprivate mutating func expectLogged(
    in timeline: Timeline, _ writes: (MemoryWindow) -> [LoggedWrite],
    covering: (LoggedWrite, LoggedSlot, inout Findings) -> Void
  ) {
    for machine in timeline.machines {
      let windows = timeline.memoryWindows.filter { $0.machine == machine.number }
      var ended = Dictionary(uniqueKeysWithValues: windows.map { ($0.endedAt, $0) })
      var logged: [Int: LoggedSlot] = [:]
      for step in machine.steps {
        if let window = ended.removeValue(forKey: step.index) {
          for number in logged.keys { logged[number]?.note(window, writes(window)) }
        }
        switch step.event.action {
        case .slotSet(let number, _, let memory, _, _):
          logged[number] =
            step.machine.memory.slots[number]?.isLogged == true
            ? LoggedSlot(memory: memory, began: step.event.number, cleared: step.index) : nil
        case .slotDeleted(let number): logged[number] = nil
        case .remapped: logged = [:]
        case .dirtyLog(let number, let pages):
          guard let slot = logged[number] else { continue }
          let dirty = Set(pages.map { Int128($0) })
          for (page, write, window) in slot.written {
            expect(
              dirty.contains(page), at: [write.event, window.began, window.ended, step.event],
              "page \(page) of slot \(number), in which a record was written, in the log",
              seen: "pages \(dirty.sorted())")
            covering(write, slot, &self)
          }
          logged[number]?.written = []
          logged[number]?.cleared = step.index
        default: continue
        }
      }
    }
  }
}
