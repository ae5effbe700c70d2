internal import ABIChecker
internal import VMBuilder

// The host looks at guest memory at large.

extension Stage {
  func fill(_ address: UInt64, count: Int) {
    note(
      { .filled(address: Hex(address), count: count, byte: 0xa5) },
      of: { machine.memory.fill(0xa5, at: Int(address), count: count) })
  }

  func lookAtMemory(_ address: UInt64, count: Int) {
    _ = note(
      { .memory(address: Hex(address), bytes: HexBytes($0)) },
      of: { machine.memory.read(at: Int(address), count: count) })
  }

  /// A copy of the whole of guest memory.
  func copyMemory() -> [UInt8] {
    note(
      { .memoryCopied(count: $0.count) },
      of: { machine.memory.read(at: 0, count: machine.memory.size) })
  }

  /// Writes down where guest memory differs from a copy, but for what the guests write themselves.
  func compareMemory(with copy: [UInt8]) {
    let owned = Layout.guestOwned(machine.vcpus)
    _ = note(
      { runs in
        .memoryChanged(
          runs: runs,
          except: owned.map { MemoryRange(address: $0.lowerBound, count: $0.count) })
      },
      of: {
        Self.differences(copy, machine.memory.read(at: 0, count: copy.count)) { page in
          !owned.contains { $0.contains(UInt64(page)) }
        }
      })
  }

  /// The runs of bytes that differ, in the pages that count; no more than say something.
  private static func differences(
    _ old: [UInt8], _ new: [UInt8], inPage counts: (Int) -> Bool
  ) -> [MemoryRange] {
    var runs: [MemoryRange] = []
    for page in stride(from: 0, to: old.count, by: 4096) where counts(page) {
      let bytes = page..<min(page + 4096, old.count)
      if old[bytes] == new[bytes] { continue }
      var start: Int?
      for at in bytes {
        if old[at] != new[at] {
          start = start ?? at
        } else if let begin = start {
          runs.append(MemoryRange(address: UInt64(begin), count: at - begin))
          start = nil
        }
      }
      if let start {
        runs.append(MemoryRange(address: UInt64(start), count: bytes.upperBound - start))
      }
      if runs.count >= 256 { break }
    }
    return runs
  }

  /// The guest has no record any more.
  func giveUp(_ vcpu: Int) throws { try writeMSR(vcpu, MSR.systemTime, 0) }

  /// Writes an MSR; whether the guest came back from it by its doorbell. If not, that is written down.
  func comesBack(_ vcpu: Int, _ msr: UInt32, _ value: UInt64) throws -> Bool {
    do {
      try writeMSR(vcpu, msr, value)
      return true
    } catch MachineError.guestStopped(let vcpu, let exit, _) {
      let now = Moment.before()
      record(.vcpu(vcpu), now, .after(), .stopped(exit: "\(exit)"))
      return false
    }
  }
}
