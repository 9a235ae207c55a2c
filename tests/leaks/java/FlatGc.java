import java.util.ArrayList;
import java.util.List;

/** Requests that have ended are let go and collected every 6 s, and the heap shrinks: nothing stays. */
final class FlatGc {
    public static void main(String[] args) throws InterruptedException {
        List<byte[]> requests = new ArrayList<>();
        long made = 0;
        double collected = 0;
        while (true) {
            double t = Pace.tick();
            for (; made < 150 * t; made++) {
                requests.add(new byte[20 * Pace.KIB]);
            }
            if (t >= collected + 6) {
                collected = t;
                requests.clear();
                System.gc();
            }
        }
    }
}
