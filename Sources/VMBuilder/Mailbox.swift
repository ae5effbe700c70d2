internal import GuestImages
package import KVM
public import PVClock

/// One request to the agent.
public struct GuestRequest: Sendable {
  var code: Int32
  var ring: Int
  var argument0, argument1, argument2: UInt64
  /// TSC cycles after which a loop ends by itself: 7 s at 5 GHz, longer than the watchdog waits and than a script needs.
  var cycles: UInt64 = 1 << 35
  /// Ends a loop whose TSC stands still. A reading takes more than 16 cycles, so `cycles` end any other loop earlier.
  public static let mostReadings: UInt64 = 1 << 31

  private init(
    _ code: Int32, ring: Int = 0, _ argument0: UInt64 = 0, _ argument1: UInt64 = 0,
    _ argument2: UInt64 = 0
  ) {
    self.code = code
    self.ring = ring
    self.argument0 = argument0
    self.argument1 = argument1
    self.argument2 = argument2
  }

  /// Nothing: the vCPU goes in and comes out, and KVM serves what it has pending.
  public static func nothing(ring: Int = 0) -> Self { Self(REQUEST_NOTHING, ring: ring) }
  public static func readMSR(_ index: UInt32) -> Self { Self(REQUEST_RDMSR, UInt64(index)) }
  public static func writeMSR(_ index: UInt32, _ value: UInt64) -> Self {
    Self(REQUEST_WRMSR, UInt64(index), value)
  }
  /// A read under the version protocol of the record at a guest-physical address.
  public static func readClock(at address: UInt64, ring: Int = 0) -> Self {
    Self(REQUEST_READ_CLOCK, ring: ring, address)
  }
  /// Both, with no exit for the host's sake between them.
  public static func writeMSR(
    _ index: UInt32, _ value: UInt64, thenReadClockAt address: UInt64
  ) -> Self {
    Self(REQUEST_WRMSR_READ_CLOCK, UInt64(index), value, address)
  }
  public static func readTSC(ring: Int = 0) -> Self { Self(REQUEST_RDTSC, ring: ring) }
  public static func cpuid(_ leaf: UInt32, _ index: UInt32 = 0) -> Self {
    Self(REQUEST_CPUID, UInt64(leaf), UInt64(index))
  }
  public static func load32(at address: UInt64, ring: Int = 0) -> Self {
    Self(REQUEST_PEEK, ring: ring, address)
  }
  public static func store32(_ value: UInt32, at address: UInt64, ring: Int = 0) -> Self {
    Self(REQUEST_POKE, ring: ring, address, UInt64(value))
  }
  public static var halt: Self { Self(REQUEST_HLT) }
  /// A hypercall of KVM with two arguments: by VMMCALL on AMD's processors and those of its kind, by VMCALL else.
  public static func hypercall(
    _ number: UInt32, _ a0: UInt32, _ a1: UInt32, byVMMCALL: Bool
  ) -> Self {
    Self(
      REQUEST_HYPERCALL, UInt64(a0), UInt64(a1),
      UInt64(number) | (byVMMCALL ? UInt64(HYPERCALL_AMD) : 0))
  }
  /// Makes the agent its own guest (L2), whose TSC is its own plus an offset: by SVM or by VMX. Result 0 is 0, or why not.
  public static func enterL2(tscOffset: UInt64, bySVM: Bool) -> Self {
    Self(REQUEST_ENTER_L2, tscOffset, bySVM ? 1 : 0)
  }
  /// Goes back to L1; result 0 is the reason of the exit, `hypercallExit`.
  public static func leaveL2(bySVM: Bool) -> Self { Self(REQUEST_LEAVE_L2, 0, bySVM ? 1 : 0) }
  /// The reason of an exit by hypercall: SVM's VMEXIT_VMMCALL, VMX's basic exit reason of VMCALL.
  public static func hypercallExit(bySVM: Bool) -> UInt64 { bySVM ? 0x81 : 18 }
  public static func invalidOpcode(ring: Int = 0) -> Self { Self(REQUEST_UD2, ring: ring) }
  /// A code that no guest knows.
  public static var unknown: Self { Self(REQUEST_COUNT) }

  /// The loop of `rewriter`: so many writes of one MSR.
  public static func rewrite(_ msr: UInt32, _ value: UInt64, count: UInt64) -> Self {
    Self(REQUEST_NOTHING, UInt64(msr), value, count)
  }
  /// The loop of `schedclock`: so many readings of a record, less the constant at an address.
  public static func readLoop(
    record: UInt64, constantAt: UInt64, count: UInt64 = mostReadings
  ) -> Self {
    Self(REQUEST_NOTHING, record, constantAt, count)
  }
  /// The loop of `sampler` and of `torn`: so many readings of a record, or until it is stopped; `sampler` watches
  /// another 32-bit word meanwhile, if it is given one.
  public static func sample(
    _ record: UInt64, witness: UInt64? = nil, count: UInt64 = mostReadings
  ) -> Self {
    Self(REQUEST_NOTHING, record, witness ?? record, count)
  }
  /// The other loop of `sampler`: what a reading costs. It reads so often again at most, where the version is odd.
  public static func measure(_ record: UInt64, attempts: UInt64 = mostReadings) -> Self {
    Self(REQUEST_MEASURE, record, 0, attempts)
  }
  /// The loop of `contend`: so many readings, or until it is stopped, in a race that meets at an address.
  public static func contend(
    _ record: UInt64, meetingAt: UInt64, count: UInt64 = mostReadings
  ) -> Self {
    Self(REQUEST_NOTHING, record, meetingAt, count)
  }
}

/// An exception that the guest caught.
public struct GuestFault: Hashable, Sendable {
  public var vector: UInt32
  public var errorCode: UInt32
  public var instructionPointer: UInt64
}

/// A clock read as the guest did it.
public struct GuestReading: Hashable, Sendable {
  public var tsc: UInt64
  public var page: ClockPage
}

/// What the guest left in its mailbox, read once.
public struct GuestReply: Sendable {
  public enum Status: Sendable, Equatable {
    case done
    case fault(GuestFault)
    /// The version of a record stayed odd.
    case neverEven
    case unknownRequest
  }
  public var status: Status
  public var result0: UInt64
  public var result1: UInt64
  public var reading: GuestReading

  public var fault: GuestFault? {
    if case .fault(let fault) = status { fault } else { nil }
  }
}

/// What a loop counted, read once.
public struct GuestLoop: Sendable {
  public var reads, backwards, beyond, excess, negative, unstable, versions, odd: UInt64
  public var witnessed, foreign, torn, stretches, dropped, cost, bareCost: UInt64
  /// Nanoseconds, 0 or less.
  public var worst: Int64
  /// Nanoseconds.
  public var minimum: Int64
  public var worstBefore, worstBeforeTSC: UInt64
  public var first, last, worstAfter: GuestReading
  /// The first two records that differ under one version.
  public var tornBefore, tornAfter: ClockPage
}

/// What a loop saw of one version of a record.
public struct GuestStretch: Sendable {
  public var page: ClockPage
  public var firstTSC, lastTSC, reads: UInt64
}

extension GuestLoop {
  /// How many readings `cost` and `bareCost` are for.
  public static let measuredReads = UInt64(MEASURED_READS)
}

/// The host's side of a vCPU's mailbox. It trusts nothing that it finds there.
package struct Mailbox {
  package let base: Int

  package init(vcpu: Int) { base = Int(Layout.mailbox(vcpu)) }

  func post(_ request: GuestRequest, in memory: borrowing GuestMemory) {
    memory.fill(0, at: base + Int(MAILBOX_LOOP), count: Int(LOOP_SIZE))
    memory.store32(UInt32(request.code), at: base + Int(MAILBOX_REQUEST))
    memory.store32(UInt32(request.ring), at: base + Int(MAILBOX_RING))
    memory.store64(request.cycles, at: base + Int(MAILBOX_END))
    memory.store64(request.argument0, at: base + Int(MAILBOX_ARGUMENT0))
    memory.store64(request.argument1, at: base + Int(MAILBOX_ARGUMENT1))
    memory.store64(request.argument2, at: base + Int(MAILBOX_ARGUMENT2))
    memory.store32(UInt32(STATUS_PENDING), at: base + Int(MAILBOX_STATUS))
  }

  /// Asks a loop to end.
  func stop(in memory: borrowing GuestMemory) {
    memory.store64(0, at: base + Int(MAILBOX_END))
  }

  package func reply(in memory: borrowing GuestMemory, vcpu: Int) throws(MachineError) -> GuestReply
  {
    let words = memory.loadWords(at: base + Int(MAILBOX_STATUS), count: 20)
    func word(_ offset: Int32) -> UInt32 { words[Int(offset - MAILBOX_STATUS) / 4] }
    func double(_ offset: Int32) -> UInt64 { UInt64(word(offset)) | UInt64(word(offset + 4)) << 32 }
    let status: GuestReply.Status
    switch Int32(bitPattern: word(MAILBOX_STATUS)) {
    case STATUS_DONE: status = .done
    case STATUS_FAULT:
      status = .fault(
        GuestFault(
          vector: word(MAILBOX_VECTOR), errorCode: word(MAILBOX_ERROR_CODE),
          instructionPointer: double(MAILBOX_FAULT_IP)))
    case STATUS_NEVER_EVEN: status = .neverEven
    case STATUS_UNKNOWN_REQUEST: status = .unknownRequest
    case STATUS_LEFT_L2:
      throw .mailboxUnreadable(
        vcpu: vcpu,
        reason: "its own guest came back unasked, for reason \(double(MAILBOX_RESULT0))")
    case STATUS_PENDING:
      throw .mailboxUnreadable(vcpu: vcpu, reason: "the doorbell rang, but no status was set")
    case let other: throw .mailboxUnreadable(vcpu: vcpu, reason: "\(other) is no status")
    }
    return GuestReply(
      status: status, result0: double(MAILBOX_RESULT0), result1: double(MAILBOX_RESULT1),
      reading: GuestReading(
        tsc: double(MAILBOX_TSC),
        page: ClockPage(words: Array(words[Int(MAILBOX_SNAPSHOT - MAILBOX_STATUS) / 4..<20]))!))
  }

  package func loop(in memory: borrowing GuestMemory) -> GuestLoop {
    let words = memory.loadWords(at: base + Int(MAILBOX_LOOP), count: Int(LOOP_SIZE) / 4)
    func double(_ offset: Int32) -> UInt64 {
      UInt64(words[Int(offset) / 4]) | UInt64(words[Int(offset) / 4 + 1]) << 32
    }
    func page(_ offset: Int32) -> ClockPage {
      let start = Int(offset) / 4
      return ClockPage(words: Array(words[start..<start + 8]))!
    }
    func reading(_ offset: Int32) -> GuestReading {
      GuestReading(tsc: double(offset + READING_TSC), page: page(offset + READING_RECORD))
    }
    return GuestLoop(
      reads: double(LOOP_READS), backwards: double(LOOP_BACKWARDS), beyond: double(LOOP_BEYOND),
      excess: double(LOOP_EXCESS), negative: double(LOOP_NEGATIVE),
      unstable: double(LOOP_UNSTABLE), versions: double(LOOP_VERSIONS), odd: double(LOOP_ODD),
      witnessed: double(LOOP_WITNESSED), foreign: double(LOOP_FOREIGN), torn: double(LOOP_TORN),
      stretches: double(LOOP_STRETCHES), dropped: double(LOOP_DROPPED), cost: double(LOOP_COST),
      bareCost: double(LOOP_BARE_COST), worst: Int64(bitPattern: double(LOOP_WORST)),
      minimum: Int64(bitPattern: double(LOOP_MINIMUM)), worstBefore: double(LOOP_WORST_BEFORE),
      worstBeforeTSC: double(LOOP_WORST_BEFORE_TSC), first: reading(LOOP_FIRST),
      last: reading(LOOP_LAST), worstAfter: reading(LOOP_WORST_AFTER),
      tornBefore: page(LOOP_TORN_BEFORE), tornAfter: page(LOOP_TORN_AFTER))
  }

  /// As many stretches as the loop says, and no more than there is room for.
  package func trace(in memory: borrowing GuestMemory) -> [GuestStretch] {
    let claimed = memory.loadWords(
      at: base + Int(MAILBOX_LOOP + LOOP_STRETCHES), count: 2)
    let count =
      claimed[1] == 0 ? min(Int(claimed[0]), Int(TRACE_STRETCHES)) : Int(TRACE_STRETCHES)
    let size = Int(STRETCH_SIZE) / 4
    let words = memory.loadWords(at: base + Int(TRACE_FROM_MAILBOX), count: count * size)
    return (0..<count).map { index in
      let stretch = words[index * size..<(index + 1) * size]
      func double(_ offset: Int32) -> UInt64 {
        let at = stretch.startIndex + Int(offset) / 4
        return UInt64(stretch[at]) | UInt64(stretch[at + 1]) << 32
      }
      let record = stretch.startIndex + Int(STRETCH_RECORD) / 4
      return GuestStretch(
        page: ClockPage(words: Array(stretch[record..<record + 8]))!,
        firstTSC: double(STRETCH_FIRST_TSC), lastTSC: double(STRETCH_LAST_TSC),
        reads: double(STRETCH_READS))
    }
  }
}
