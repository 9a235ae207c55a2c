import java.util.ArrayList;
import java.util.List;

/**
 * Requests that have ended are let go and collected every 6 s, and the heap shrinks; an audit list keeps 0.4 MiB/s of what
 * they made. The heap keeps a fifth of itself free, so it grows by 0.5 MiB/s.
 */
final class LeakStaticList {
    private static final List<byte[]> AUDIT = new ArrayList<>();

    public static void main(String[] args) throws InterruptedException {
        List<byte[]> requests = new ArrayList<>();
        long made = 0;
        double collected = 0;
        while (true) {
            double t = Pace.tick();
            for (; made < 120 * t; made++) {
                requests.add(new byte[20 * Pace.KIB]);
            }
            // 16 bytes of each are its header.
            while (AUDIT.size() * 4.0 * Pace.KIB < 0.4 * Pace.MIB * t) {
                AUDIT.add(new byte[4 * Pace.KIB - 16]);
            }
            if (t >= collected + 6) {
                collected = t;
                requests.clear();
                System.gc();
            }
        }
    }
}
