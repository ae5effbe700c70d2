// Section B of the catalogue: the memory behind a record.

extension Rule {
  static let memory: [Rule] = [
    .systimeCrosspageServed, .systimeCrosspageNoStale, .systimeCrosspageNoStray, .systimeSlotServed,
    .slotDeleteNoStale, .slotReaddServed, .hvaRemapServed, .readonlySlotUntouched,
    .systimeUnbackedLateMap, .dirtyLogPVClock, .dirtyLogWall,
  ]

  static let systimeCrosspageServed = Rule(
    "SYSTIME-CROSSPAGE-SERVED",
    "A record that begins in one page of the guest's RAM and ends in the next is served.",
    source:
      "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW (\"4-byte aligned physical address of a "
      + "memory area which must be in guest RAM\")",
    method:
      "Register 4 to 28 bytes before the end of a page; set the clock from the host, enter, and compare all memory.",
    scenarios: [.crossPage],
    faults: ["gfn_to_pfn_cache for pv_time (Linux 5.19): an update that leaves the record alone"]
  ) { timeline in
    var findings = Findings()
    for (window, record, setting) in timeline.recordsUpdated({ $0.crossesPage }) {
      guard let place = record.place, !record.isReadOnly else { continue }
      findings.expect(
        window.changes.contains { place.contains($0) }, at: [record.write, setting, window.ended],
        "vcpu\(record.vcpu)'s record at \(Hex(record.address)) written: \(describe(place))",
        seen: describe(window.changes))
    }
    return findings.outcome(atLeast: 3, "updates of a record across two pages", in: timeline)
  }

  static let systimeCrosspageNoStale = Rule(
    "SYSTIME-CROSSPAGE-NO-STALE",
    "When a vCPU registers a record across two pages, served or not, its former record is never written again.",
    source: "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW",
    method:
      "Register, then register across two pages; set the clock from the host, enter, and compare all memory: "
      + "another vCPU's record changes, the former one keeps every byte.",
    scenarios: [.crossPage],
    faults: ["__kvm_gpc_activate() that fails and leaves the cache active at the former address"]
  ) { timeline in
    var findings = Findings()
    for (window, record, setting) in timeline.recordsUpdated({ $0.crossesPage }) {
      guard let former = record.givenUp else { continue }
      let stale = window.changes.filter { former.meets($0) && !window.allows($0) }
      findings.expectUntouched(
        stale, window, record, setting,
        "vcpu\(record.vcpu)'s former record, \(describe(former)), as it was")
    }
    return findings.outcome(atLeast: 3, "updates after a move across two pages", in: timeline)
  }

  static let systimeCrosspageNoStray = Rule(
    "SYSTIME-CROSSPAGE-NO-STRAY",
    "When a vCPU without a record registers one across two pages, nothing outside of that record is written.",
    source: "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW",
    method:
      "With no registration, or after one was ended, register across two pages; set the clock from the host, enter, and "
      + "compare all memory: nothing changes but this record and other vCPUs'.",
    scenarios: [.crossPage],
    faults: ["kvm_gpc_activate() that fails and leaves the cache active at a stale address"]
  ) { timeline in
    var findings = Findings()
    for window in timeline.memoryWindows {
      for record in window.records where record.crossesPage && record.wasOff {
        let stray = window.changes.filter { !window.allows($0) }
        guard let setting = window.setting, window.entered.contains(record.vcpu) else {
          if !stray.isEmpty {
            findings.expectUntouched(
              stray, window, record, nil, "nothing written outside of the live records")
          }
          continue
        }
        findings.expectUntouched(
          stray, window, record, setting, "nothing written outside of the live records")
      }
    }
    return findings.outcome(
      atLeast: 2, "updates after a registration across two pages", in: timeline)
  }

  static let systimeSlotServed = Rule(
    "SYSTIME-SLOT-SERVED",
    "A record at any guest-physical address of any memory slot is served, from a slot's first byte to its last, below "
      + "4 GiB and above, and nothing else in the slot is written.",
    source:
      "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW (\"must be in guest RAM\")",
    method:
      "Register in a second slot below 1 GiB and in a third one above 4 GiB: at the start, in the middle, at the end; "
      + "set the clock from the host, enter, and compare all memory.",
    scenarios: [.slots],
    faults: [
      "kvm_write_system_time() that keeps the low 32 bits of the address",
      "kvm_write_system_time() that rounds the address down to 64 bytes",
    ]
  ) { timeline in
    timeline.isServed(atLeast: 4, "updates of records in slots") {
      $0.slot.map { $0 != 0 } ?? false && !$0.crossesPage && $0.first != nil && $0.moved == nil
    }
  }

  static let slotDeleteNoStale = Rule(
    "SLOT-DELETE-NO-STALE",
    "Once the slot that holds a record is deleted, the memory that was in it is not written any more.",
    source: "Documentation/virt/kvm/api.rst, 4.35 KVM_SET_USER_MEMORY_REGION",
    method:
      "Delete the slot, set the clock from the host, enter, and compare all memory: another vCPU's record changes, the "
      + "memory keeps every byte.",
    scenarios: [.slots],
    faults: ["kvm_gpc_check() that does not look at the generation of the memory slots"]
  ) { timeline in
    var findings = Findings()
    for (window, record, setting) in timeline.recordsUpdated({ $0.place == nil }) {
      guard !record.former.isEmpty else { continue }
      findings.expectUntouched(
        window.changesBeside(record), window, record, setting,
        "the memory of the deleted slot as it was, where vcpu\(record.vcpu)'s record stood at "
          + "\(Hex(record.address))")
    }
    return findings.outcome(atLeast: 2, "updates after a slot was deleted", in: timeline)
  }

  static let slotReaddServed = Rule(
    "SLOT-READD-SERVED",
    "When a slot comes back with other memory, the next update of a record in it lands in the new memory, and only there; "
      + "no new write of the MSR is needed.",
    source: "Documentation/virt/kvm/api.rst, 4.35 KVM_SET_USER_MEMORY_REGION",
    method:
      "Delete the slot and set it again with other memory, with and without an update between; set the clock from the "
      + "host, enter, and compare all memory.",
    scenarios: [.slots],
    faults: [
      "kvm_gpc_check() that does not look at the generation of the memory slots",
      "a cache that stays dead after the slot came back",
    ]
  ) { timeline in
    timeline.isServed(atLeast: 2, "updates after a slot came back with other memory") {
      !$0.crossesPage && $0.first != nil && $0.moved == .slot
    }
  }

  static let hvaRemapServed = Rule(
    "HVA-REMAP-SERVED",
    "When the host maps other pages at the address that a slot names, the next update of a record lands in the new pages, "
      + "and the old ones, which may be anybody's by then, are not written.",
    source: "virt/kvm/pfncache.c, gfn_to_pfn_cache_invalidate_start() (called by the MMU notifier)",
    method:
      "mmap() with MAP_FIXED over the slot's memory; set the clock from the host, enter, and compare the new pages and "
      + "the old ones, which the host has mapped elsewhere too.",
    scenarios: [.slots],
    faults: ["gfn_to_pfn_cache_invalidate_start() that leaves the cached page valid"]
  ) { timeline in
    timeline.isServed(atLeast: 2, "updates after other pages came to the slot's address") {
      !$0.crossesPage && $0.first != nil && $0.moved == .remap
    }
  }

  static let readonlySlotUntouched = Rule(
    "READONLY-SLOT-UNTOUCHED",
    "A record in a read-only slot is registered without a fault, and the slot's memory is never written.",
    source: "Documentation/virt/kvm/api.rst, 4.35 KVM_SET_USER_MEMORY_REGION, KVM_MEM_READONLY",
    method:
      "Register in a slot with KVM_MEM_READONLY, through both MSRs; set the clock from the host, enter, and compare all "
      + "memory: another vCPU's record changes, the slot's memory keeps every byte.",
    scenarios: [.slots],
    faults: ["__kvm_gpc_refresh() that does not ask whether the slot may be written"]
  ) { timeline in
    var findings = Findings()
    findings.expectNoFault(in: timeline)
    for window in timeline.memoryWindows {
      guard let setting = window.setting else { continue }
      for record in window.records where record.isReadOnly {
        guard let place = record.place, window.entered.contains(record.vcpu) else { continue }
        // The same memory may stand in another slot, too, where somebody else has a record.
        let isShared = window.records.contains {
          !$0.isReadOnly && $0.place?.memory == place.memory
        }
        guard !isShared else { continue }
        findings.expectUntouched(
          window.changes.filter { $0.memory == place.memory }, window, record, setting,
          "read-only memory as it was, where vcpu\(record.vcpu)'s record is registered at "
            + "\(Hex(record.address))")
      }
    }
    return findings.outcome(atLeast: 2, "updates with a record in a read-only slot", in: timeline)
  }

  static let systimeUnbackedLateMap = Rule(
    "SYSTIME-UNBACKED-LATE-MAP",
    "Whether a record that was registered where no RAM was is served once RAM appears there, without another write of "
      + "the MSR.",
    source: "virt/kvm/pfncache.c, kvm_gpc_refresh(); Linux 916d3608df82 (5.19)",
    method:
      "Register at an address without a slot, update, set a slot there, set the clock from the host, enter, and compare "
      + "all memory.",
    scenarios: [.slots], isObservation: true
  ) { timeline in
    let records = timeline.recordsUpdated { $0.first == nil && $0.place != nil && !$0.isReadOnly }
    guard !records.isEmpty else {
      return .notTested(
        reason: timeline.lacking ?? "no RAM came to where a record was registered before")
    }
    let served = records.count { window, record, _ in
      window.changes.contains { change in record.place?.contains(change) ?? false }
    }
    return .observed(
      value:
        "served by the next update, without a write of the MSR, in \(served) of \(records.count) cases"
    )
  }
}

extension MemoryWindow {
  /// What was written without leave in the memories where a record stands or stood.
  fileprivate func changesBeside(_ record: RecordInMemory) -> [MemoryChange] {
    let memories = Set((record.former + [record.place].compactMap { $0 }).map(\.memory))
    return changes.filter { memories.contains($0.memory) && !allows($0) }
  }
}

extension Findings {
  /// Nothing was changed, while some other vCPU's record was: proof that updates were made.
  fileprivate mutating func expectUntouched(
    _ changes: [MemoryChange], _ window: MemoryWindow, _ record: RecordInMemory, _ setting: Event?,
    _ expected: @autoclosure () -> String
  ) {
    guard !changes.isEmpty || window.hasWitness(besides: record.vcpu) else {
      return lacks(
        "no other vCPU's record was written either, so nothing shows that updates were made")
    }
    expect(
      changes.isEmpty, at: [record.write, setting, window.ended].compactMap { $0 }, expected(),
      seen: describe(changes))
  }
}

extension Timeline {
  /// Updates reach each record that the rule concerns where it stands now, and nothing beside it, nor where it stood.
  fileprivate func isServed(
    atLeast minimum: Int, _ what: String, _ concerns: (RecordInMemory) -> Bool
  ) -> Outcome {
    var findings = Findings()
    for (window, record, setting) in recordsUpdated(concerns) {
      guard let place = record.place, !record.isReadOnly else { continue }
      let beside = window.changesBeside(record)
      findings.expect(
        beside.isEmpty && window.changes.contains { place.contains($0) },
        at: [record.write, setting, window.ended],
        "vcpu\(record.vcpu)'s record at \(Hex(record.address)) written, \(describe(place)), and "
          + "nothing beside it",
        seen: describe(window.changes))
    }
    return findings.outcome(atLeast: minimum, what, in: self)
  }
}
