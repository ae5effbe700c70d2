// A migration copies the pages that the log names: what the host writes for a guest has to be in it.

extension Rule {
  static let dirtyLogPVClock = Rule(
    "DIRTY-LOG-PVCLOCK",
    "In a slot with KVM_MEM_LOG_DIRTY_PAGES every update of a record marks its page dirty, even if logging began after "
      + "the registration, and however the log is cleared.",
    sources: [
      .api("4.8 KVM_GET_DIRTY_LOG"), .api("4.117 KVM_CLEAR_DIRTY_LOG"),
      .api("4.35 KVM_SET_USER_MEMORY_REGION, KVM_MEM_LOG_DIRTY_PAGES"),
    ],
    method:
      "Fetch the log and clear it, as it is fetched or by KVM_CLEAR_DIRTY_LOG; make an update, compare all memory, fetch "
      + "it again: pages in which a record changed are in it.",
    scenarios: [.dirtyLog],
    coverage: [
      .observations(4, "updates of records in a slot that is logged"),
      .each(["before", "after"], "orders of logging and registration"),
      .each(DirtyPages.clearings, "requests that clear the log"),
      .each(
        [LoggedWrite.Kind.registration, .setting, .stop].map(\.rawValue), "kinds of writes"),
    ]
  ) { timeline, findings in
    findings.expectNamed(by: .log, in: timeline, \.recordWrites) { write, slot, findings in
      let order = slot.began < write.event.number ? "before" : "after"
      findings.cover(order, of: "orders of logging and registration")
      if let kind = write.kind { findings.cover(kind.rawValue, of: "kinds of writes") }
    }
  }

  static let dirtyLogWall = Rule(
    "DIRTY-LOG-WALL",
    "In a slot with KVM_MEM_LOG_DIRTY_PAGES a write of either wall-clock MSR marks the page of its record dirty, however "
      + "the log is cleared.",
    sources: [
      .api("4.8 KVM_GET_DIRTY_LOG"), .api("4.117 KVM_CLEAR_DIRTY_LOG"),
      .api("4.35 KVM_SET_USER_MEMORY_REGION, KVM_MEM_LOG_DIRTY_PAGES"),
    ],
    method:
      "Fetch the log and clear it, as it is fetched or by KVM_CLEAR_DIRTY_LOG; write 0x11 or 0x4b564d00, compare all "
      + "memory, fetch it again.",
    scenarios: [.dirtyLog],
    coverage: [
      .observations(4, "writes of the wall clock in a slot that is logged"),
      .each(MSR.wallClocks.map(\.description), "MSRs"),
      .each(DirtyPages.clearings, "requests that clear the log"),
    ]
  ) { timeline, findings in
    findings.expectNamed(by: .log, in: timeline, \.wallWrites) { write, _, findings in
      findings.cover(write.msr.description, of: "MSRs")
    }
  }

  static let dirtyRing = Rule(
    "DIRTYRING-MARKS-RECORD",
    "With dirty rings each write of a record or of a wall clock into a slot with KVM_MEM_LOG_DIRTY_PAGES names its page "
      + "in a ring, or in the dirty log beside the rings, and does so again after KVM_RESET_DIRTY_RINGS.",
    sources: [
      .api("8.29 KVM_CAP_DIRTY_LOG_RING/KVM_CAP_DIRTY_LOG_RING_ACQ_REL"),
      .api("4.35 KVM_SET_USER_MEMORY_REGION, KVM_MEM_LOG_DIRTY_PAGES"),
    ],
    method:
      "Harvest the rings and reset them; make an update of one kind, compare all memory, harvest again: pages in which a "
      + "record changed are named.",
    scenarios: [.dirtyRing],
    coverage: [
      .observations(20, "writes of records in a slot that is logged"),
      .each(LoggedWrite.Kind.allCases.map(\.rawValue), "kinds of writes"), .everyVCPU(),
    ],
    needs: [.dirtyRing]
  ) { timeline, findings in
    findings.expectNamed(by: .rings, in: timeline, { $0.recordWrites + $0.wallWrites }) {
      write, _, findings in
      if let kind = write.kind { findings.cover(kind.rawValue, of: "kinds of writes") }
      findings.cover(vcpu: write.vcpu)
    }
  }
}

/// A write of a record that the guest asked for.
private struct LoggedWrite {
  enum Kind: String, CaseIterable {
    case registration = "a registration"
    case setting = "KVM_SET_CLOCK"
    case stop = "KVM_KVMCLOCK_CTRL"
    case wallClock = "a wall clock"
  }

  /// Why it was written, if the history shows that.
  var kind: Kind?
  var vcpu: Int?
  var place: Place
  var event: Event
  var msr: Hex
}

extension MemoryWindow {
  fileprivate var recordWrites: [LoggedWrite] {
    records.compactMap { record in
      let kind: LoggedWrite.Kind? =
        if toldStopped.contains(record.vcpu) {
          .stop
        } else if setting != nil {
          .setting
        } else {
          record.write.event.number > began.number ? .registration : nil
        }
      return record.place.map {
        LoggedWrite(
          kind: kind, vcpu: record.vcpu, place: $0, event: record.write.event,
          msr: record.write.msr)
      }
    }
  }

  fileprivate var wallWrites: [LoggedWrite] {
    walls.map {
      LoggedWrite(
        kind: .wallClock, vcpu: $0.write.vcpu, place: $0.place, event: $0.write, msr: $0.msr)
    }
  }
}

/// What tells the host which pages were written, and begins anew when it is asked.
private enum DirtyPages: String {
  case log = "in the log"
  case rings = "in a dirty ring"

  /// The log is cleared as it is fetched, or by a request of its own.
  static let clearings = ["KVM_GET_DIRTY_LOG", "KVM_CLEAR_DIRTY_LOG"]

  /// The pages of each slot that an event names; nil if it is no such question.
  func named(by action: Action) -> ((_ slot: Int) -> Set<Int128>?)? {
    switch (self, action) {
    case (.log, .dirtyLog(let number, let pages)),
      (.log, .dirtyLogCleared(let number, let pages)):
      { $0 == number ? Set(pages.map { Int128($0) }) : nil }
    case (.rings, .dirtyRings(let pages)):
      { slot in Set(pages.filter { $0.slot == slot }.map { Int128($0.page) }) }
    default: nil
    }
  }
}

/// A slot that is logged.
private struct LoggedSlot {
  var memory: Int
  /// The number of the event in which logging began.
  var began: Int
  /// The place in the history of the last question for the pages.
  var cleared: Int
  /// The pages that were written since then.
  var written: [(page: Int128, write: LoggedWrite, window: MemoryWindow)] = []

  /// Notes a window's changes, if the last question came before it began.
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
  /// Every change in a place that `writes` names is among the pages that the host is told of next.
  fileprivate mutating func expectNamed(
    by source: DirtyPages, in timeline: Timeline, _ writes: (MemoryWindow) -> [LoggedWrite],
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
        default: break
        }
        guard let named = source.named(by: step.event.action) else { continue }
        for (number, slot) in logged.sorted(by: { $0.key < $1.key }) {
          guard let pages = named(number) else { continue }
          for (page, write, window) in slot.written {
            expect(
              pages.contains(page), at: [write.event, window.began, window.ended, step.event],
              "page \(page) of slot \(number), in which a record was written, \(source.rawValue)",
              seen: "pages \(pages.sorted())")
            covering(write, slot, &self)
            if case .log = source {
              let isCleared = if case .dirtyLogCleared = step.event.action { true } else { false }
              cover(DirtyPages.clearings[isCleared ? 1 : 0], of: "requests that clear the log")
            }
          }
          logged[number]?.written = []
          logged[number]?.cleared = step.index
        }
      }
    }
  }
}
