internal import PVClock

// Sections B and E of the catalogue, as far as they concern the bytes of a record.

extension Rule {
  static let page: [Rule] = [.pageSize32, .pagePadZero, .flagsReservedZero]

  static let pageSize32 = Rule(
    "PAGE-SIZE-32",
    "The host writes exactly 32 bytes.",
    source: "arch/x86/include/asm/pvclock-abi.h (\"MUST NOT be changed\")",
    method: "Fill the page with 0xa5, register, look at 64 bytes on both sides of the record.",
    scenarios: [.registration], faults: ["kvm_setup_guest_pvclock() writes byte 32"]
  ) { timeline in
    var findings = Findings()
    for (event, start, bytes, record) in timeline.memoryAroundRecords {
      let offset = Int(record - start)
      guard offset >= 64, bytes.count - offset - ClockPage.size >= 64 else {
        findings.lacks("the host looked at less than 64 bytes on each side of the record")
        continue
      }
      let inside = bytes[offset..<offset + ClockPage.size]
      let changed = bytes.indices.filter {
        !(offset..<offset + ClockPage.size).contains($0) && bytes[$0] != 0xa5
      }
      findings.expect(
        changed.isEmpty && !inside.allSatisfy { $0 == 0xa5 }, at: [event],
        "the 32 bytes from \(Hex(record)) written and 0xa5 around them",
        seen: changed.first.map {
          "byte at \(Hex(start &+ UInt64($0))) is \(Hex(UInt64(bytes[$0])))"
        }
          ?? "nothing written")
    }
    return findings.outcome(atLeast: 2, "records with 64 guard bytes on both sides", in: timeline)
  }

  static let pagePadZero = Rule(
    "PAGE-PAD-ZERO",
    "pad0 and pad[2] are written as 0.",
    source:
      "arch/x86/include/asm/pvclock-abi.h; arch/x86/kvm/x86.c, kvm_setup_guest_pvclock() copies a "
      + "zeroed structure",
    method:
      "Fill the page with 0xa5, register, look at the record; every other record seen is checked too.",
    scenarios: [.registration], everywhere: true,
    faults: ["pad0, or pad[1], keeps what stood in guest memory"]
  ) { timeline in
    var findings = Findings()
    for (event, _, bytes, record) in timeline.memoryAroundRecords {
      let start = event.memoryStart
      guard let page = ClockPage(bytes: bytes[Int(record - start)...].prefix(ClockPage.size))
      else { continue }
      findings.expect(
        page.pad0 == 0 && page.pad == 0, at: [event], "pad0 0 and pad 0", seen: describe(page))
    }
    for (event, _, page) in timeline.pages {
      findings.expect(
        page.pad0 == 0 && page.pad == 0, at: [event], "pad0 0 and pad 0", seen: describe(page))
    }
    return findings.outcome(atLeast: 2, "records", in: timeline)
  }

  static let flagsReservedZero = Rule(
    "FLAGS-RESERVED-ZERO",
    "Of the flags only bit 0 (TSC_STABLE) and bit 1 (GUEST_STOPPED) are ever set; bit 2 (COUNTS_FROM_ZERO) broke "
      + "the ABI in Linux 4.2 and stays clear.",
    source: "arch/x86/include/asm/pvclock-abi.h",
    method: "Look at every record seen.",
    scenarios: [.registration], everywhere: true,
    faults: ["flags start with PVCLOCK_COUNTS_FROM_ZERO (Linux 4.2)"]
  ) { timeline in
    var findings = Findings()
    for (event, _, page) in timeline.pages {
      findings.expect(
        page.flags.intersection(.reserved).isEmpty, at: [event], "flags with bits 2 to 7 clear",
        seen: "flags \(Hex(UInt64(page.flags.rawValue)))"
          + (page.flags.contains(.countsFromZero) ? ": bit 2, PVCLOCK_COUNTS_FROM_ZERO" : ""))
    }
    return findings.outcome(atLeast: 2, "records", in: timeline)
  }
}

extension Event {
  fileprivate var memoryStart: UInt64 {
    if case .memory(let address, _) = action { address.value } else { 0 }
  }
}

extension Timeline {
  /// The host's looks at guest memory that was filled with 0xa5 and holds one registered record with bytes around it.
  fileprivate var memoryAroundRecords:
    [(event: Event, start: UInt64, bytes: [UInt8], record: UInt64)]
  {
    var registered: [(record: UInt64, write: Event)] = []
    var found: [(Event, UInt64, [UInt8], UInt64)] = []
    for event in history.events {
      switch event.action {
      case .vmCreated: registered = []
      case .filled: registered = []
      case .wroteMSR(let msr, let value, nil) where MSR.isSystemTime(msr) && value.value & 1 == 1:
        registered.append((value.value & ~1, event))
      case .memory(let address, let hex):
        let start = Int128(address.value)
        let end = start + Int128(hex.bytes.count)
        let touched = registered.filter {
          Int128($0.record) + Int128(ClockPage.size) > start && Int128($0.record) < end
        }
        if let (record, write) = touched.first, touched.count == 1, record >= address.value,
          Int128(record) + Int128(ClockPage.size) <= end,
          wasFilled(address, count: hex.bytes.count, before: write)
        {
          found.append((event, address.value, hex.bytes, record))
        }
      default: continue
      }
    }
    return found
  }
}
