// Sections B and H of the catalogue: what the host writes for a guest has to reach the other side of a migration.

extension Rule {
  static let dirtyLogPVClock = Rule(
    "DIRTY-LOG-PVCLOCK",
    "In a slot with KVM_MEM_LOG_DIRTY_PAGES every update of a record marks its page dirty, also where logging began after "
      + "the registration.",
    source: "Documentation/virt/kvm/api.rst, 4.8 KVM_GET_DIRTY_LOG; 4.35, KVM_MEM_LOG_DIRTY_PAGES",
    method:
      "Fetch the log, which clears it; make an update, compare all memory, fetch it again: pages in which a record "
      + "changed are in it.",
    scenarios: [.dirtyLog],
    faults: ["kvm_setup_guest_pvclock() without mark_page_dirty_in_slot(): a log without the page"]
  ) { timeline in
    timeline.isLogged(atLeast: 4, "updates of records in a slot that is logged") { window in
      window.records.compactMap { record in record.place.map { ($0, record.write) } }
    }
  }

  static let dirtyLogWall = Rule(
    "DIRTY-LOG-WALL",
    "In a slot with KVM_MEM_LOG_DIRTY_PAGES a write of a wall-clock MSR marks the page of its record dirty.",
    source: "Documentation/virt/kvm/api.rst, 4.8 KVM_GET_DIRTY_LOG; 4.35, KVM_MEM_LOG_DIRTY_PAGES",
    method:
      "Fetch the log, which clears it; write 0x11 or 0x4b564d00, compare all memory, fetch it again.",
    scenarios: [.dirtyLog],
    faults: ["kvm_write_wall_clock() that does not mark the page: a log without the page"]
  ) { timeline in
    timeline.isLogged(atLeast: 4, "writes of the wall clock in a slot that is logged") { window in
      window.walls.map { ($0.place, $0.write) }
    }
  }
}

/// The slots that are logged.
private struct LoggedSlots {
  struct Slot {
    var memory: Int
    /// The last clearing of the log.
    var cleared: Int
    /// What was written since then.
    var written: [(page: Int128, events: [Event])] = []
  }

  var slots: [Int: Slot] = [:]

  mutating func set(_ slot: Int, _ memory: Int, _ flags: UInt64, at index: Int) {
    slots[slot] = flags & 1 == 1 ? Slot(memory: memory, cleared: index) : nil
  }

  /// What a window shows, if the log was cleared before it began.
  mutating func note(
    _ window: MemoryWindow, from began: Int, _ places: [(place: Place, write: Event)]
  ) {
    for (number, slot) in slots where slot.cleared < began {
      for (place, write) in places where place.memory == slot.memory {
        for change in window.changes where place.contains(change) {
          for page in change.pages {
            slots[number]?.written.append((page, [write, window.began, window.ended]))
          }
        }
      }
    }
  }
}

extension Timeline {
  /// Every change in a place that `places` names is in the log that is fetched next.
  fileprivate func isLogged(
    atLeast minimum: Int, _ what: String,
    _ places: (MemoryWindow) -> [(place: Place, write: Event)]
  ) -> Outcome {
    var findings = Findings()
    var logged = LoggedSlots()
    var pass = MemoryPass()
    var began = 0
    for (index, event) in history.events.enumerated() {
      if let window = pass.take(event) { logged.note(window, from: began, places(window)) }
      switch event.action {
      case .vmCreated: logged = LoggedSlots()
      case .compared: began = index
      case .slotSet(let slot, _, let memory, _, let flags):
        logged.set(slot, memory, flags.value, at: index)
      case .slotDeleted(let slot): logged.slots[slot] = nil
      case .remapped: logged = LoggedSlots()
      case .dirtyLog(let slot, let pages):
        let dirty = Set(pages.map { Int128($0) })
        for (page, events) in logged.slots[slot]?.written ?? [] {
          findings.expect(
            dirty.contains(page), at: events + [event],
            "page \(page) of slot \(slot), in which a record was written, in the log",
            seen: "pages \(dirty.sorted())")
        }
        logged.slots[slot]?.written = []
        logged.slots[slot]?.cleared = index
      default: continue
      }
    }
    return findings.outcome(atLeast: minimum, what, in: self)
  }
}
