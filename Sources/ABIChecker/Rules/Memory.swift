// The memory behind a record.

extension Rule {
  static let memory: [Rule] = [
    .systimeCrosspageServed, .systimeCrosspageNoStale, .systimeCrosspageNoStray, .systimeSlotServed,
    .slotDeleteNoStale, .slotReaddServed, .hvaRemapServed, .readonlySlotUntouched,
    .systimeUnbackedLateMap, .dirtyLogPVClock, .dirtyLogWall, .dirtyRing,
  ]

  static let systimeCrosspageServed = Rule(
    "SYSTIME-CROSSPAGE-SERVED",
    "A record that begins in one page of the guest's RAM and ends in the next is updated.",
    sources: [
      .msr(
        "MSR_KVM_SYSTEM_TIME_NEW (\"4-byte aligned physical address of a memory "
          + "area which must be in guest RAM\")"),
      .commit("Linux 8f964525a121 (3.9)"),
    ],
    method:
      "Register a record 4 to 28 bytes before the end of a page; set the clock from the host, enter, and compare all "
      + "memory.",
    scenarios: [.crossPage], coverage: [.observations(3, "updates of a record across two pages")]
  ) { timeline, findings in
    for (window, record, setting) in timeline.recordsUpdated({ $0.crossesPage }) {
      guard let place = record.place, !record.isReadOnly else { continue }
      findings.expect(
        window.changes.contains { place.contains($0) },
        at: [record.write.event, setting, window.ended],
        "vcpu\(record.vcpu)'s record at \(Hex(record.address)) written: \(describe(place))",
        seen: describe(window.changes))
    }
  }

  static let systimeCrosspageNoStale = Rule(
    "SYSTIME-CROSSPAGE-NO-STALE",
    "When a vCPU moves its record to an address across two pages, the former record is not written any more, even if "
      + "the new one is not updated.",
    sources: [
      .msr("MSR_KVM_SYSTEM_TIME_NEW"),
      .guest(
        "Linux and its kexec: the memory of a record that was given up is used for other things"),
    ],
    method:
      "Register a record, then one across two pages; set the clock from the host, enter, and compare all memory: "
      + "another vCPU's record changes, the former one keeps every byte.",
    scenarios: [.crossPage],
    coverage: [.observations(3, "updates after a move across two pages")]
  ) { timeline, findings in
    for (window, record, setting) in timeline.recordsUpdated({ $0.crossesPage }) {
      guard case .live(let former?) = record.former else { continue }
      findings.expectUntouched(
        window.changes.filter { former.meets($0) && !window.allows($0) }, window, record, setting,
        "vcpu\(record.vcpu)'s former record, \(describe(former)), unchanged")
    }
  }

  static let systimeCrosspageNoStray = Rule(
    "SYSTIME-CROSSPAGE-NO-STRAY",
    "When a vCPU without a record registers one across two pages, whether it had one before or not, nothing outside of "
      + "the registered records is written.",
    sources: [.commit("Linux c300aa64ddf5 (3.9), CVE-2013-1796")],
    method:
      "With no registration so far, and after one was ended, register a record across two pages; set the clock from the "
      + "host, enter, and compare all memory: only this record and other vCPUs' change.",
    scenarios: [.crossPage],
    coverage: [
      .observations(2, "updates after a registration across two pages"),
      .each(["never registered", "given up"], "former records"),
    ]
  ) { timeline, findings in
    for window in timeline.memoryWindows {
      for record in window.records where record.crossesPage {
        let former: String
        switch record.former {
        case .nothing: former = "never registered"
        case .givenUp: former = "given up"
        case .live: continue
        }
        let stray = window.changes.filter { !window.allows($0) }
        let isUpdated = window.setting != nil && window.entered.contains(record.vcpu)
        guard isUpdated || !stray.isEmpty else { continue }
        if findings.expectUntouched(
          stray, window, record, window.setting,
          "nothing written outside of the registered records")
        {
          findings.cover(former, of: "former records")
        }
      }
    }
  }

  static let systimeSlotServed = Rule(
    "SYSTIME-SLOT-SERVED",
    "A record at any guest-physical address of any memory slot is updated, from the slot's first byte to its last, below "
      + "4 GiB and above, and nothing else in the slot is written.",
    sources: [.msr("MSR_KVM_SYSTEM_TIME_NEW (\"must be in guest RAM\")")],
    method:
      "Register a record in a second slot below 1 GiB and in a third one above 4 GiB: at the start, in the middle, at the "
      + "end; set the clock from the host, enter, and compare all memory.",
    scenarios: [.slots],
    coverage: [
      .observations(6, "updates of records in slots"),
      .each(
        ["below 4 GiB", "above 4 GiB"].flatMap { half in
          ["first byte", "middle", "last byte"].map { "\($0) of a slot \(half)" }
        }, "places"),
    ]
  ) { timeline, findings in
    findings.expectServed(in: timeline) {
      guard let slot = $0.slot else { return false }
      return slot.memory != 0 && !$0.crossesPage && $0.first != nil && $0.moved == nil
    } covering: { record, place, findings in
      guard let slot = record.slot else { return }
      let part =
        place.offset == 0
        ? "first byte" : place.offset + place.count == slot.size ? "last byte" : "middle"
      let half = slot.address + slot.size <= 1 << 32 ? "below 4 GiB" : "above 4 GiB"
      findings.cover("\(part) of a slot \(half)", of: "places")
    }
  }

  static let slotDeleteNoStale = Rule(
    "SLOT-DELETE-NO-STALE",
    "Once the slot that holds a record is deleted, the memory that was in it is not written any more.",
    sources: [.commit("Linux 0b79459b482e (3.9), CVE-2013-1797")],
    method:
      "Delete the slot, set the clock from the host, enter, and compare all memory: another vCPU's record changes, the "
      + "deleted slot's memory keeps every byte.",
    scenarios: [.slots], coverage: [.observations(2, "updates after a slot was deleted")]
  ) { timeline, findings in
    for (window, record, setting) in timeline.recordsUpdated({ $0.place == nil }) {
      guard !record.left.isEmpty else { continue }
      findings.expectUntouched(
        window.changesBeside(record), window, record, setting,
        "the memory of the deleted slot unchanged, where vcpu\(record.vcpu)'s record was at "
          + "\(Hex(record.address))")
    }
  }

  static let slotReaddServed = Rule(
    "SLOT-READD-SERVED",
    "When a slot comes back with other memory, the next update of a record in it is written to the new memory, and only "
      + "there; no new write of the MSR is needed.",
    sources: [.api("4.35 KVM_SET_USER_MEMORY_REGION"), .msr("MSR_KVM_SYSTEM_TIME_NEW")],
    method:
      "Delete the slot and set it again with other memory, with and without an update between; set the clock from the "
      + "host, enter, and compare all memory.",
    scenarios: [.slots],
    coverage: [.observations(2, "updates after a slot came back with other memory")]
  ) { timeline, findings in
    findings.expectServed(in: timeline) {
      !$0.crossesPage && $0.first != nil && $0.moved == .slot
    }
  }

  static let hvaRemapServed = Rule(
    "HVA-REMAP-SERVED",
    "When the host maps other pages at the address that a slot names, the next update of a record is written to the new "
      + "pages, and not to the old ones, which may belong to another process by then.",
    sources: [
      .api(
        "4.35 KVM_SET_USER_MEMORY_REGION (\"an mmap() that affects the region will be "
          + "made visible immediately\")"),
      .implementation("virt/kvm/pfncache.c, gfn_to_pfn_cache_invalidate_start()"),
    ],
    method:
      "mmap() with MAP_FIXED over the slot's memory; set the clock from the host, enter, and compare the new pages and "
      + "the old ones, which the host has mapped elsewhere too.",
    scenarios: [.slots],
    coverage: [.observations(2, "updates after other pages were mapped at the slot's address")]
  ) { timeline, findings in
    findings.expectServed(in: timeline) {
      !$0.crossesPage && $0.first != nil && $0.moved == .remap
    }
  }

  static let readonlySlotUntouched = Rule(
    "READONLY-SLOT-UNTOUCHED",
    "A record in a read-only slot is registered without a fault through both MSRs, and the slot's memory is not "
      + "written.",
    sources: [.api("4.35 KVM_SET_USER_MEMORY_REGION, KVM_MEM_READONLY")],
    method:
      "Register a record in a slot with KVM_MEM_READONLY, through both MSRs; set the clock from the host, enter, and "
      + "compare all memory: another vCPU's record changes, the slot's memory keeps every byte.",
    scenarios: [.slots],
    coverage: [
      .observations(2, "updates with a record in a read-only slot"),
      .each(MSR.systemTimes.map(\.description), "MSRs"),
    ],
    needs: [.readOnlyMemory]
  ) { timeline, findings in
    findings.expectNoFault(in: timeline)
    for window in timeline.memoryWindows {
      guard let setting = window.setting else { continue }
      for record in window.records where record.isReadOnly {
        guard let place = record.place, window.entered.contains(record.vcpu) else { continue }
        // The same memory may be in another slot too, where another vCPU has a record.
        let isShared = window.records.contains {
          !$0.isReadOnly && $0.place?.memory == place.memory
        }
        guard !isShared else { continue }
        if findings.expectUntouched(
          window.changes.filter { $0.memory == place.memory }, window, record, setting,
          "read-only memory unchanged, where vcpu\(record.vcpu)'s record is registered at "
            + "\(Hex(record.address))")
        {
          findings.cover(record.write.msr.description, of: "MSRs")
        }
      }
    }
  }

  static let systimeUnbackedLateMap = Rule(
    "SYSTIME-UNBACKED-LATE-MAP",
    "Whether a record that was registered at an address without RAM is updated once RAM appears there, without another "
      + "write of the MSR.",
    sources: [.implementation("virt/kvm/pfncache.c, kvm_gpc_refresh(); Linux 916d3608df82 (5.19)")],
    method:
      "Register at an address without a slot, update, set a slot there, set the clock from the host, enter, and compare "
      + "all memory.",
    scenarios: [.slots], coverage: [.count(1, "records at whose address RAM appeared later")],
    isObservation: true
  ) { timeline, findings in
    let records = timeline.recordsUpdated { $0.first == nil && $0.place != nil && !$0.isReadOnly }
    guard !records.isEmpty else { return }
    let served = records.count { window, record, _ in
      window.changes.contains { change in record.place?.contains(change) ?? false }
    }
    findings.report(
      "updated without a write of the MSR in \(served) of \(records.count) cases")
  }
}

extension MemoryWindow {
  /// The changes that KVM may not make in the memories where a record lies or lay.
  fileprivate func changesBeside(_ record: RecordInMemory) -> [MemoryChange] {
    let memories = Set((record.left + [record.place].compactMap { $0 }).map(\.memory))
    return changes.filter { memories.contains($0.memory) && !allows($0) }
  }
}

extension Findings {
  /// Nothing was changed, while some other vCPU's record was: proof that updates were made.
  ///
  /// - Returns: whether it counted.
  @discardableResult
  fileprivate mutating func expectUntouched(
    _ changes: [MemoryChange], _ window: MemoryWindow, _ record: RecordInMemory, _ setting: Event?,
    _ expected: @autoclosure () -> String
  ) -> Bool {
    guard !changes.isEmpty || window.hasWitness(besides: record.vcpu) else {
      lacks("no other vCPU's record was written either, so nothing shows that updates were made")
      return false
    }
    expect(
      changes.isEmpty, at: [record.write.event, setting, window.ended].compactMap { $0 },
      expected(), seen: describe(changes))
    return true
  }

  /// Updates reach each record that the rule concerns where it lies now, and nothing beside it, nor where it lay.
  fileprivate mutating func expectServed(
    in timeline: Timeline, _ concerns: (RecordInMemory) -> Bool,
    covering: (RecordInMemory, Place, inout Findings) -> Void = { _, _, _ in }
  ) {
    for (window, record, setting) in timeline.recordsUpdated(concerns) {
      guard let place = record.place, !record.isReadOnly else { continue }
      let beside = window.changesBeside(record)
      expect(
        beside.isEmpty && window.changes.contains { place.contains($0) },
        at: [record.write.event, setting, window.ended],
        "vcpu\(record.vcpu)'s record at \(Hex(record.address)) written, \(describe(place)), and "
          + "nothing beside it",
        seen: describe(window.changes))
      covering(record, place, &self)
    }
  }
}
