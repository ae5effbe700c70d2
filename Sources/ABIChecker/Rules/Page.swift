internal import PVClock

// The bytes of a record.

extension Rule {
  static let page: [Rule] = [.pageSize32, .pagePadZero, .flagsReservedZero]

  static let pageSize32 = Rule(
    "PAGE-SIZE-32",
    "The host writes nothing beside the 32 bytes of a record.",
    sources: [
      .document(
        "arch/x86/include/asm/pvclock-abi.h, pvclock_vcpu_time_info (\"MUST NOT be changed\")")
    ],
    method: "Fill the page with 0xa5, register, read 64 bytes on both sides of the record.",
    scenarios: [.registration],
    coverage: [.observations(2, "records with 64 guard bytes on both sides")]
  ) { timeline, findings in
    for (event, start, bytes, record) in timeline.memoryAroundRecords {
      let offset = Int(record - start)
      guard offset >= 64, bytes.count - offset - ClockPage.size >= 64 else {
        findings.lacks("the host read less than 64 bytes on each side of the record")
        continue
      }
      let inside = bytes[offset..<offset + ClockPage.size]
      let changed = bytes.indices.first { !inside.indices.contains($0) && bytes[$0] != 0xa5 }
      findings.expect(
        changed == nil && !inside.allSatisfy { $0 == 0xa5 }, at: [event],
        "the 32 bytes from \(Hex(record)) written and 0xa5 around them",
        seen: changed.map { "byte at \(Hex(start &+ UInt64($0))) is \(Hex(UInt64(bytes[$0])))" }
          ?? "nothing written")
    }
  }

  static let pagePadZero = Rule(
    "PAGE-PAD-ZERO",
    "pad0 and pad[2] are written as 0.",
    sources: [.x86("kvm_setup_guest_pvclock() copies a structure that was zeroed")],
    method:
      "Fill the page with 0xa5, register, read the record; every other record that was read is checked too.",
    scenarios: [.registration], everywhere: true, coverage: [.observations(2, "records")],
    inside: [.observations(2, "records")]
  ) { timeline, findings in
    let inMemory = timeline.memoryAroundRecords.compactMap { event, start, bytes, record in
      ClockPage(bytes: bytes[Int(record - start)...].prefix(ClockPage.size)).map { (event, $0) }
    }
    for (event, page) in inMemory + timeline.pages.map({ ($0.event, $0.page) }) {
      findings.expect(
        page.pad0 == 0 && page.pad == 0, at: [event], "pad0 0 and pad 0", seen: describe(page))
    }
  }

  static let flagsReservedZero = Rule(
    "FLAGS-RESERVED-ZERO",
    "Of the flags only bit 0 (TSC_STABLE) and bit 1 (GUEST_STOPPED) are ever set; bit 2 (COUNTS_FROM_ZERO) broke "
      + "the ABI in Linux 4.2 and stays clear.",
    sources: [
      .document(
        "arch/x86/include/asm/pvclock-abi.h (\"PVCLOCK_COUNTS_FROM_ZERO broke ABI and can't be used anymore\")"
      ),
      .msr("MSR_KVM_SYSTEM_TIME_NEW, field flags"),
    ],
    method:
      "Check every record that the host or a guest read, also in races: the first and the last reading of a loop, the one "
      + "after its worst step, and one of each version.",
    scenarios: [.registration], everywhere: true, coverage: [.observations(2, "records")],
    inside: [.observations(2, "records")]
  ) { timeline, findings in
    for record in timeline.pages {
      let flags = record.page.flags
      findings.expect(
        flags.intersection(.reserved).isEmpty, at: [record.event],
        "flags of vcpu\(record.vcpu)'s record with bits 2 to 7 clear",
        seen: "flags \(Hex(UInt64(flags.rawValue)))"
          + (flags.contains(.countsFromZero) ? ": bit 2, PVCLOCK_COUNTS_FROM_ZERO" : ""))
    }
  }
}

extension Timeline {
  /// The host's readings of guest memory that was filled with 0xa5, and in which only one record was registered since.
  fileprivate var memoryAroundRecords:
    [(event: Event, start: UInt64, bytes: [UInt8], record: UInt64)]
  {
    var found: [(Event, UInt64, [UInt8], UInt64)] = []
    for machine in machines {
      // The guest's write that registered a record over the fill; nil where an update is not certain.
      var registered: [UInt64: Event?] = [:]
      for step in machine.steps {
        if let write = step.systemTimeWrite, let record = write.record {
          registered[record] = .some(write.isByHost ? nil : write.event)
        }
        switch step.event.action {
        case .filled(let start, let count, _):
          for record in registered.keys
          where record &- (start.value &- 31) < UInt64(max(0, count)) + 31 {
            let isLive = step.machine.records.values.contains { $0.record == record }
            registered[record] = isLive ? .some(nil) : nil
          }
        case .memory(let start, let hex):
          let bytes = hex.bytes
          let touched = registered.filter {
            $0.key &- (start.value &- 31) < UInt64(bytes.count) + 31
          }
          if case (let record, let write?)? = touched.first, touched.count == 1,
            record >= start.value,
            Int128(record - start.value) + Int128(ClockPage.size) <= Int128(bytes.count),
            wasFilled(start, count: bytes.count, before: write)
          {
            found.append((step.event, start.value, bytes, record))
          }
        default: continue
        }
      }
    }
    return found
  }
}
