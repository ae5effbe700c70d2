internal import GuestImages

/// A flat binary that a vCPU can run.
public enum GuestImage: Int, Sendable, CaseIterable {
  case agentReal, agentProtected, agentLong, rewriter, schedclock, sampler, contend, torn

  var image: guest_image {
    switch self {
    case .agentReal: guest_image_agent_real()
    case .agentProtected: guest_image_agent_protected()
    case .agentLong: guest_image_agent_long()
    case .rewriter: guest_image_rewriter()
    case .schedclock: guest_image_schedclock()
    case .sampler: guest_image_sampler()
    case .contend: guest_image_contend()
    case .torn: guest_image_torn()
    }
  }

  /// The name of its file in `guest-images/`, without the ending.
  public var name: String { String(cString: image.name) }

  public var bytes: [UInt8] { Array(UnsafeBufferPointer(start: image.bytes, count: image.size)) }

  public var mode: BootMode {
    switch self {
    case .agentReal: .real
    case .agentProtected: .protected
    case .agentLong, .rewriter, .schedclock, .sampler, .contend, .torn: .long
    }
  }

  /// Where a machine puts it.
  var address: UInt64 { Layout.images + UInt64(rawValue) * Layout.imageSpacing }

  /// Address of the first instruction, and of the stub for exception vector 0.
  var entry: UInt64 { address + UInt64(header(Int(IMAGE_ENTRY))) }
  var faultStubs: UInt64 { address + UInt64(header(Int(IMAGE_FAULTS))) }

  private func header(_ offset: Int) -> UInt32 {
    (0..<4).reduce(0) { $0 | UInt32(image.bytes[offset + $1]) << UInt32(8 * $1) }
  }
}

/// The CPU mode in which a guest begins.
public enum BootMode: String, Sendable, CaseIterable {
  case real, protected, long
}
