internal import PVClock

// Where a record may lie, who may register it, and what a write of the MSR does not change.

extension Rule {
  static let registrationDetails: [Rule] = [
    .hostsetRegisters, .systimeAlign4, .systimeUnbackedNoFault, .scribbleRepaired,
    .systimeRewriteMasterExact,
  ]

  static let hostsetRegisters = Rule(
    "HOSTSET-REGISTERS",
    "KVM_SET_MSRS of 0x12 or 0x4b564d01 with bit 0 set registers a record as the guest's own write does: it is valid "
      + "after the vCPU's next entry.",
    sources: [
      .msr("MSR_KVM_SYSTEM_TIME_NEW"),
      .guest(
        "a guest that was migrated: its user space restores the MSR, and the guest does not write it again"
      ),
      .x86("kvm_set_msr_common()"),
    ],
    method:
      "Fill a page with 0xa5; the host writes each MSR on both vCPUs; the vCPU enters; read the record.",
    scenarios: [.hostRegisters],
    coverage: [
      .observations(4, "registrations by the host"), .everyVCPU(),
      .each(MSR.systemTimes.map(\.description), "MSRs"),
    ]
  ) { timeline, findings in
    for machine in timeline.machines {
      var judged: Set<Int> = []
      var lastStore = 0
      for step in machine.steps {
        switch step.event.action {
        case .filled, .poked: lastStore = step.event.number
        case .page(let vcpu, let address, let page):
          guard let write = step.after.systemTime, write.isByHost, write.record == address.value,
            let entry = step.after.lastEntry, entry > write.event.number,
            write.event.number > lastStore, !judged.contains(write.event.number),
            timeline.wasFilled(address, before: write.event)
          else { continue }
          judged.insert(write.event.number)
          findings.cover(vcpu: vcpu)
          findings.cover(write.msr.description, of: "MSRs")
          findings.expect(
            page.isServed, at: [write.event, step.event],
            "a record of vcpu\(vcpu) at \(address), which the host registered through \(write.msr)",
            seen: describe(page))
        default: continue
        }
      }
    }
  }

  static let systimeAlign4 = Rule(
    "SYSTIME-ALIGN4",
    "A record may lie at every 4-byte aligned address of a page that leaves 32 bytes of it; nothing beside these bytes is "
      + "written.",
    sources: [.msr("MSR_KVM_SYSTEM_TIME_NEW (\"4-byte aligned physical address\")")],
    method:
      "Each of the 1017 offsets, far from the one before: fill with 0xa5, write the MSR, read the record and 64 bytes "
      + "on both sides.",
    scenarios: [.align4],
    coverage: [
      .observations(1017, "writes and records"), .different(1017, "offsets in a page"),
    ]
  ) { timeline, findings in
    for machine in timeline.machines {
      var last: (write: SystemTimeWrite, former: UInt64?)?
      for step in machine.steps {
        if let write = step.systemTimeWrite { last = (write, step.before.record) }
        switch step.event.action {
        case .filled: last = nil
        case .wroteMSR(let msr, let value, let fault)
        where MSR.isSystemTime(msr) && value.value & 3 < 2:
          findings.expect(
            fault == nil, at: [step.event], "no fault from a write of \(value) to \(msr)",
            seen: "exception vector \(fault?.vector ?? 0)")
        case .memory(let start, let hex):
          // An entry may update the former record until the write: that one has to be elsewhere.
          guard let (write, former) = last, let address = write.record,
            address &- start.value == 64, hex.bytes.count == 160, address % 4 == 0,
            address % 4096 <= 4096 - 32,
            former.map({ abs(difference(address, $0)) >= 96 }) ?? true,
            step.machine.records.count == 1,
            timeline.wasFilled(start, count: 160, before: write.event),
            let page = ClockPage(bytes: hex.bytes[64..<96])
          else { continue }
          last = nil
          findings.cover(Hex(address % 4096).description, of: "offsets in a page")
          let stray = hex.bytes.indices.first {
            !(64..<96).contains($0) && hex.bytes[$0] != 0xa5
          }
          findings.expect(
            page.isServed && stray == nil, at: [write.event, step.event],
            "a record at \(Hex(address)), offset \(Hex(address % 4096)) of its page, and 0xa5 around it",
            seen: describe(page)
              + (stray.map { "; byte at \(Hex(start.value &+ UInt64($0))) is not 0xa5" } ?? ""))
        default: continue
        }
      }
    }
  }

  static let systimeUnbackedNoFault = Rule(
    "SYSTIME-UNBACKED-NOFAULT",
    "A registration outside of guest memory raises no fault and causes no exit; it reads back, and nothing is written to "
      + "guest memory but the records of vCPUs that registered memory.",
    sources: [.x86("kvm_write_system_time()")],
    method:
      "From a registered record and from none, register addresses beyond memory and at the ends of the address space; set "
      + "the clock, enter; compare all of guest memory, where only another vCPU's record may change.",
    scenarios: [.unbacked],
    coverage: [
      .observations(12, "writes, readings back and comparisons of all memory"),
      .count(4, "comparisons of all memory while another record changed"),
      .different(4, "addresses outside of memory"),
      .each(["a record", "no record"], "registrations before"),
    ]
  ) { timeline, findings in
    for machine in timeline.machines {
      var copy: Event?
      var size: Int128?
      func isOutside(_ record: UInt64?) -> Bool {
        if let record, let size { Int128(record) >= size } else { false }
      }
      var hadRecord: [Int: Bool] = [:]
      for step in machine.steps {
        let outside = step.machine.records.filter { isOutside($0.value.record) }
        switch step.event.action {
        case .memoryCopied(let count): (copy, size) = (step.event, Int128(count))
        case .filled, .poked: copy = nil
        case .replugged where step.before.record != nil: copy = nil
        case .stopped(let exit) where size != nil && step.isEntry:
          findings.expect(
            false, at: [step.event],
            "no exit from vcpu\(step.vcpu ?? 0)'s registration outside of memory", seen: exit)
        case .wroteMSR(let msr, let value, let fault?)
        where MSR.isSystemTime(msr) && value.value & 1 == 1 && isOutside(value.value & ~1):
          findings.expectNoFault(fault, of: value, to: msr, at: step.event)
        case .readMSR(let msr, let value, nil) where MSR.isSystemTime(msr):
          guard let write = step.after.systemTime, isOutside(write.record) else { continue }
          findings.expect(
            value.value == write.value, at: [write.event, step.event],
            "\(Hex(write.value)) read back from \(msr) on vcpu\(step.vcpu ?? 0)", seen: "\(value)")
        case .memoryChanged(let runs, let except):
          guard let copy, !outside.isEmpty,
            findings.expectUntouched(runs, except, outside, step, since: copy)
          else { continue }
          for (vcpu, write) in outside {
            findings.cover(Hex(write.record ?? 0).description, of: "addresses outside of memory")
            if let had = hadRecord[vcpu] {
              findings.cover(had ? "a record" : "no record", of: "registrations before")
            }
          }
        default: break
        }
        guard let write = step.systemTimeWrite, let vcpu = step.vcpu else { continue }
        let former = isOutside(step.before.record) ? nil : step.before.record
        if isOutside(write.record) {
          findings.expectNoFault(nil, of: Hex(write.value), to: write.msr, at: step.event)
          hadRecord[vcpu] = former != nil
        }
        // A record that comes or goes between the copy and the comparison may have changed in either.
        if former != nil || (write.record != nil && !isOutside(write.record)) { copy = nil }
      }
    }
  }

  static let systimeRewriteMasterExact = Rule(
    "SYSTIME-REWRITE-MASTER-EXACT",
    "In master-clock mode a write of the system-time MSR takes no new snapshot: the new record has the tsc_timestamp, "
      + "system_time, multiplier and shift that the record before had, bit for bit.",
    sources: [
      .commit(
        "Linux c52ffadc65e2 (6.7) (\"Unnecessarily updating the masterclock is undesirable as it can cause kvmclock's time "
          + "to jump\")"),
      .x86(
        "kvm_write_system_time() asks for KVM_REQ_GLOBAL_CLOCK_UPDATE, not for a new master clock"),
    ],
    method:
      "600 writes on two vCPUs, of the same address and now and then another; read the record after each.",
    scenarios: [.rewriteExact],
    coverage: [.observations(500, "writes that left the record's pair as it was"), .everyVCPU()],
    needs: [.masterClock]
  ) { timeline, findings in
    for machine in timeline.machines {
      var first: [Int: (event: Event, page: ClockPage)] = [:]
      var write: [Int: Event] = [:]
      for step in machine.steps {
        switch step.event.action {
        case _ where step.machine.mayHaveNewPair: (first, write) = ([:], [:])
        case .setClock, .vcpuCreated: (first, write) = ([:], [:])
        case .wroteMSR:
          if let vcpu = step.vcpu, let made = step.systemTimeWrite {
            write[vcpu] = made.record == nil ? nil : made.event
          }
        case .page(let vcpu, let address, let page):
          guard step.after.holdsNewestPair, step.after.record == address.value else { continue }
          guard page.flags.contains(.tscStable) else {
            findings.lacks("the VM is not in master-clock mode: PVCLOCK_TSC_STABLE_BIT is clear")
            first[vcpu] = nil
            continue
          }
          guard let (look, old) = first[vcpu] else {
            first[vcpu] = (step.event, page)
            continue
          }
          guard let write = write.removeValue(forKey: vcpu) else { continue }
          findings.cover(vcpu: vcpu)
          findings.expect(
            page.hasSamePair(as: old), at: [look, write, step.event],
            "vcpu\(vcpu)'s record with the pair and the scale of the one before: \(describe(old))",
            seen: describe(page)
              + ": a new snapshot, a step of \(nanoseconds(page.step(from: old)))")
        default: continue
        }
      }
    }
  }

  static let scribbleRepaired = Rule(
    "SCRIBBLE-REPAIRED",
    "An update writes every field of a record that the guest has overwritten. It takes over two things from the guest's "
      + "bytes: the version, which it moves on, and bit 1 (GUEST_STOPPED) of the flags, which it keeps.",
    sources: [
      .msr("MSR_KVM_SYSTEM_TIME_NEW, the fields"),
      .commit("Linux 51d59c6b42 (3.7)"),
      .x86("kvm_setup_guest_pvclock()"),
    ],
    method:
      "The guest overwrites all 32 bytes with random ones, with chosen flags, and writes the MSR; read the record.",
    scenarios: [.scribble],
    coverage: [
      .observations(8, "records repaired, and readings"), .everyVCPU(),
      .each(["bit 1 set", "bit 1 clear"], "flags that the guest wrote"),
      .each(["even", "odd"], "versions that the guest wrote"),
    ]
  ) { timeline, findings in
    var writes: Set<Int> = []
    for machine in timeline.machines {
      /// The record as the host wrote it last.
      var good: [Int: ClockPage] = [:]
      var words: [Int: [UInt64: UInt32]] = [:]
      var due: [Int: (write: Event, scribble: ClockPage)] = [:]
      for step in machine.steps {
        guard let vcpu = step.vcpu else { continue }
        if step.systemTimeWrite != nil {
          let scribble = ClockPage(scribbled: words.removeValue(forKey: vcpu) ?? [:])
          due[vcpu] = nil
          if let scribble, step.before.record == step.after.record {
            due[vcpu] = (step.event, scribble)
            writes.insert(step.event.number)
          }
        }
        let seen: (address: UInt64, page: ClockPage)
        switch step.event.action {
        case .poked(let address, let value):
          let offset = address.value &- (step.after.record ?? .max)
          if offset < 32, offset % 4 == 0 {
            words[vcpu, default: [:]][offset / 4] = UInt32(truncatingIfNeeded: value.value)
          }
          continue
        case .setTSCKHz, .toldStopped:
          (good[vcpu], due[vcpu]) = (nil, nil)
          continue
        case .read(let address, _, let reading, settled: true):
          seen = (address.value, reading.page)
        case .page(_, let address, let page): seen = (address.value, page)
        default: continue
        }
        guard seen.address == step.after.record, words[vcpu] == nil else { continue }
        if let (write, scribble) = due.removeValue(forKey: vcpu), let old = good[vcpu] {
          findings.expectRepaired(seen.page, scribble, old, at: [write, step.event])
        }
        good[vcpu] = seen.page
      }
    }
    findings.expectTimeKept(
      in: timeline,
      why: "the time that CLOCK_MONOTONIC_RAW counted; the guest's own bytes are gone"
    ) { writes.contains($0.event.number) ? $0.vcpu : nil }
  }
}

extension ClockPage {
  /// How much later it is by this record than by an older one, at the later of the two's TSC values.
  fileprivate func step(from old: ClockPage) -> Int128 {
    let tsc = difference(tscTimestamp, old.tscTimestamp) >= 0 ? tscTimestamp : old.tscTimestamp
    return difference(systemTime(atTSC: tsc), old.systemTime(atTSC: tsc))
  }

  /// The record as eight words of memory.
  fileprivate init?(scribbled words: [UInt64: UInt32]) {
    guard words.count == 8 else { return nil }
    self.init(words: (0..<8).map { words[$0] ?? 0 })
  }
}

extension MemoryRange {
  fileprivate func contains(_ other: MemoryRange) -> Bool {
    let start = Int128(address.value)
    let begin = Int128(other.address.value)
    return start <= begin && begin + Int128(other.count) <= start + Int128(count)
  }
}

extension Findings {
  fileprivate mutating func expectNoFault(
    _ fault: Fault?, of value: Hex, to msr: Hex, at event: Event
  ) {
    expect(
      fault == nil, at: [event],
      "no fault from a write of \(value) to \(msr), which is outside of memory",
      seen: "exception vector \(fault?.vector ?? 0)")
  }

  /// Of guest memory only records of vCPUs that registered memory have changed.
  ///
  /// - Returns: whether it counted.
  fileprivate mutating func expectUntouched(
    _ runs: [MemoryRange], _ except: [MemoryRange], _ outside: [Int: SystemTimeWrite],
    _ step: Step, since copied: Event
  ) -> Bool {
    let live = step.machine.records.filter { outside[$0.key] == nil }.values.compactMap {
      $0.record.map { MemoryRange(address: $0, count: ClockPage.size) }
    }
    let unexpected = runs.first { run in !(live + except).contains { $0.contains(run) } }
    let isAlive = runs.contains { run in live.contains { $0.contains(run) } }
    guard isAlive || unexpected != nil else {
      lacks("no other vCPU's record changed, so nothing shows that updates were made")
      return false
    }
    count("comparisons of all memory while another record changed")
    expect(
      unexpected == nil,
      at: ([copied, step.event] + outside.values.map(\.event)).sorted { $0.number < $1.number },
      "changes only in records of vCPUs that registered memory",
      seen: unexpected.map { "\($0.count) bytes changed from \($0.address)" } ?? "")
    return true
  }

  fileprivate mutating func expectRepaired(
    _ page: ClockPage, _ scribble: ClockPage, _ old: ClockPage, at events: [Event]
  ) {
    let isOdd = scribble.version % 2 == 1
    cover(
      scribble.flags.contains(.guestStopped) ? "bit 1 set" : "bit 1 clear",
      of: "flags that the guest wrote")
    cover(isOdd ? "odd" : "even", of: "versions that the guest wrote")
    let advance = VersionProtocol.advance(from: scribble.version, to: page.version)
    let least: UInt32 = isOdd ? 3 : 2
    let flags = page.flags.subtracting(.tscStable)
    expect(
      advance >= least && advance < 1 << 31 && page.version % 2 == 0
        && flags == scribble.flags.intersection(.guestStopped) && page.scale == old.scale
        && page.pad0 == 0 && page.pad == 0 && page.tscTimestamp != scribble.tscTimestamp
        && page.systemTime != scribble.systemTime,
      at: events,
      "an even version at least \(least) after \(scribble.version), of the flags \(Hex(UInt64(scribble.flags.rawValue))) "
        + "bit 1 and no other, tsc_to_system_mul \(Hex(old.tscToSystemMultiplier)), tsc_shift \(old.tscShift), pads 0, and "
        + "a new tsc_timestamp and system_time",
      seen: describe(page))
  }
}
